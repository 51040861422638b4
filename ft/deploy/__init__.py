"""A run's model for others: written, checked on real images, described, and loaded again."""
