"""What few labels allow: other diseases, public and self-supervised starts, pseudo-labels."""
