"""Other ways to fine-tune, one a file, each as its own documentation uses it; for ``time_to_accuracy``."""
