"""Numbers as people read them."""


def duration_in_words(seconds: float) -> str:
    """``2 h 5 min``, ``3 min 20 s`` or ``4.2 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
