"""What may leave the hospital: policy, gate and receipts."""
