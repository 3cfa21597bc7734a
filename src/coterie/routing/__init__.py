"""From logits of base and specialists to the clusters that a sample asks, and its probabilities. Arrays only."""
