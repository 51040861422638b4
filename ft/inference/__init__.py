"""A trained model at work: what computes logits, what they mean, and what a run has said of its images."""
