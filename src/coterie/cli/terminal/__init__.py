"""What the command line prints: progress, the plan, tables of figures; a kind of output a file."""
