"""What else the budget of a run's specialists could have bought."""
