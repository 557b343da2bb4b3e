"""VGG16, built here because MONAI has none and torchvision is no dependency."""
