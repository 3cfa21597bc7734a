"""The training loop, its hooks, and passes over samples."""
