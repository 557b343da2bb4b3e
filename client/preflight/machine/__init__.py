"""What the machine offers: processors, memory, GPU, disk and file systems."""
