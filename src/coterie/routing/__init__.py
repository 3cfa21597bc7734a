"""Logits of base and specialists -> whom to ask, and what comes out. Arrays only."""
