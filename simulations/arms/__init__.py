"""What a federation is compared with: one hospital alone, all data in one place."""
