"""Measurements of coterie, by question: README.md is their index."""
