"""Where trials come from: every combination of a grid, or what an Optuna study proposes."""
