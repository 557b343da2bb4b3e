"""ResNet50 on slices and on volumes, with pretrained normalisation that no patient changes."""
