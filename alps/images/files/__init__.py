"""Files of unknown origin become arrays and annotations."""
