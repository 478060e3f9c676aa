"""Read videos with tracked boxes, frame by frame."""
