"""Pictures of images, masks, classes and objects."""
