"""Videos with tracked boxes, frame by frame."""
