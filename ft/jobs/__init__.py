"""What a sweep asks of one process: a training run, many heads at once, the features of a backbone, a soup."""
