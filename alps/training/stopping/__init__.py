"""Early end of a run: signals, and failure of one of several processes."""
