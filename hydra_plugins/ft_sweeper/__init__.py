"""Where Hydra looks for sweepers; the work is in ``ft.sweeps``."""
