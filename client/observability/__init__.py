"""What a hospital's own monitoring may see: it stays inside the hospital."""
