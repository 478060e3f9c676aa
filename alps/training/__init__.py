"""Learning: the Lightning task, its data, its checkpoints, and prediction."""
