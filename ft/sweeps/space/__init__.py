"""The search space: which keys vary, between which values, under which conditions, and how all that is written."""
