"""Sweeps: which runs there are to be, what has come of them, and what that tells."""
