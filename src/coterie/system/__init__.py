"""The machine: files that appear whole, a lock, limits and their units, ranks, a cache."""
