"""Networks: encoder → head → classifier."""
