"""A run on disk: its folder, its manifest, and what is made of them."""
