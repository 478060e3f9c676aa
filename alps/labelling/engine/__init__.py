"""Where labelling runs."""
