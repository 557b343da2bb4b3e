"""ConneX: structural and functional connectomes, graph backbones under one mask, fusion, heads."""
