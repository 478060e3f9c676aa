"""The label store: its layout on disk, and the processes that share it."""
