"""Where masks come from."""
