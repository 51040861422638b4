"""What is seen of a sweep while it runs."""
