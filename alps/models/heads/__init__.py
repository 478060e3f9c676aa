"""What turns features of several strides into one map."""
