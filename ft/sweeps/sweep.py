"""One sweep from its request to its report."""
