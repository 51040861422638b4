"""What is learned: targets, loss, metrics, and how logits become a prediction."""
