"""What is asked of bases, runs and label vectors beside a run itself; a study a package."""
