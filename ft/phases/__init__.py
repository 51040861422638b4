"""Which stages are open when, and the one place that freezes."""
