"""Values -> HTML pages that need nothing else. Nothing is computed here but the layout."""
