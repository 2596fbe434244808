"""Images: from a JPEG file to a model's input, the names of ImageNet's files, and images that stand in for them."""
