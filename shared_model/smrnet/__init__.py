"""SMR-Net: multi-resolution tokens, slice attention and graph reasoning over an atlas."""
