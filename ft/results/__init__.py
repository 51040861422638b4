"""What a run has reached, told from its stored predictions: figures with their uncertainty, pictures, comparisons."""
