"""Early end of a run by a signal, or by the failure of one of several processes."""
