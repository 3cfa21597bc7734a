"""The trained ensemble: a base, its specialists, and the rule that combines them."""
