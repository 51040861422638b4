"""How weights move: parameter groups, schedules, and the optimizers torch does not have."""
