"""Pictures of images, masks, classes and objects for the reports."""
