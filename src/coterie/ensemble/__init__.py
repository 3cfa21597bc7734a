"""The trained base and its specialists, ready to answer."""
