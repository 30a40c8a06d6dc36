"""Durations as text."""


def duration(seconds: float) -> str:
    """Return a duration as text: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`.

    Example:
        >>> [duration(seconds) for seconds in (0.004, 0.42, 9.96, 59.6, 125, 3600, 180_000)]
        ['4 ms', '0.4 s', '10 s', '1 min', '2 min 5 s', '1 h', '2 d 2 h']
    """
    if seconds < 0.1:
        return f"{1000 * seconds:.2g} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, large, small, part in ((86_400, "d", "h", 3600), (3600, "h", "min", 60), (60, "min", "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {large}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def rounded_duration(seconds: float) -> str:
    """Return an estimated duration as text, in one unit.

    Example:
        >>> [rounded_duration(seconds) for seconds in (0.4, 34, 110, 5400, 40 * 3600, 80 * 3600)]
        ['1 s', '34 s', '2 min', '90 min', '40 h', '3 d']
    """
    for limit, unit, length in ((91, "s", 1), (5401, "min", 60), (48 * 3600, "h", 3600)):
        if seconds < limit:
            return f"{max(1, round(seconds / length))} {unit}"
    return f"{round(seconds / 86_400)} d"
