"""Labelled samples from several sources, behind one function."""

from coterie.data.new import find_new, read_new
from coterie.data.sources import load, read_groups

__all__ = ["find_new", "load", "read_groups", "read_new"]
