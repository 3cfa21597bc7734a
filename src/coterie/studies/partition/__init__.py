"""A partition alone, with all that tells whether it is good."""
