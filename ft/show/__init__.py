"""What a run says and logs: header, progress, closing table, metrics.csv."""
