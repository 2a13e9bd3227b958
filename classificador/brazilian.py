"""Numbers as a Brazilian reader writes them: decimal comma, thousands with a point."""


def number(value: float, digits: int = 2) -> str:
    """Return e.g. "1.234,50" for (1234.5, 2)."""
    return f"{value:,.{digits}f}".translate(str.maketrans(",.", ".,"))


def percent(fraction: float, digits: int = 1) -> str:
    """Return e.g. "85,3%" for 0.853."""
    return number(100 * fraction, digits) + "%"


def duration(seconds: float) -> str:
    """Return e.g. "42 s", "2 min 23 s" or "1 h 05 min"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{number(seconds, 1)} s" if seconds < 10 else f"{rest} s"
