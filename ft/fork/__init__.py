"""A fork of the tree that ft is imported from: the standard library, and git where it is installed."""
