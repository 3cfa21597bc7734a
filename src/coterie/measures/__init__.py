"""Answers -> figures: accuracies, calibration, balance over classes, significance. Arrays only."""
