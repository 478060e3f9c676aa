"""How a run ends early: signals, and processes that end together."""
