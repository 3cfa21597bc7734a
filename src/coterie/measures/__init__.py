"""From answers to figures: accuracies, calibration, balance over classes, significance. Arrays only."""
