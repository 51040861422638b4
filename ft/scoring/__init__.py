"""What predictions are worth: metrics, how sure they are, and which differences between runs are real."""
