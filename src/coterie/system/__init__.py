"""What a run needs of the machine: files that appear whole, a lock, limits, ranks, a cache."""
