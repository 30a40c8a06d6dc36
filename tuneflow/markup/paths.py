"""Paths of SVG: lines, dots, crosses and bands, in pixels, and those that have a part for each of some trials."""

from collections.abc import Iterable, Sequence

from tuneflow.markup.html import Markup, element

Point = tuple[float, float]  # in pixels, the second one downwards


def line_of(points: Iterable[Point], rough: bool = False) -> str:
    """Return the path through points, in whole pixels and tenths; empty without any.

    Args:
        points: in pixels.
        rough: in whole pixels only, for one line among hundreds.

    Example:
        >>> line_of([(0, 1.26), (10.04, 2)])
        'M0 1.3L10 2'
    """
    text = "L".join(f"{x:.0f} {y:.0f}" if rough else f"{pixels(x)} {pixels(y)}" for x, y in points)
    return f"M{text}" if text else ""


def dots_of(points: Iterable[Point]) -> str:
    """Return the path of dots at points, in whole pixels: as wide as its stroke, if that has round ends.

    Example:
        >>> dots_of([(1, 2.2), (3, 4)])
        'M1 2zM3 4z'
    """
    return "".join(f"M{x:.0f} {y:.0f}z" for x, y in points)


def crosses_of(points: Iterable[Point], size: float = 3) -> str:
    """Return the path of crosses at points, each `2 * size` wide."""
    wide = pixels(2 * size)
    return "".join(f"M{pixels(x - size)} {pixels(y - size)}l{wide} {wide}m-{wide} 0l{wide} -{wide}" for x, y in points)


def band_of(upper: Sequence[Point], lower: Sequence[Point]) -> str:
    """Return the path around the area between two lines, each from left to right."""
    return line_of([*upper, *reversed(lower)]) + "Z" if upper and lower else ""


def trials_path(d: str, numbers: Iterable[int], class_: str) -> Markup | None:
    """Return a path with a part for each of some trials, which a page's script links with their other parts.

    Args:
        d: the path; the part of a trial begins with its only M.
        numbers: of the trials, in the order of the parts.
        class_: `dots`, `crosses` or `lines`, and what else the style has a rule for.
    """
    return element("path", d=d, data_t=ranges_text(numbers), class_=class_) if d else None


def ranges_text(numbers: Iterable[int]) -> str:
    """Return whole numbers in their order as text, those that follow on each other as a range.

    Example:
        >>> ranges_text([0, 1, 2, 5, 4])
        '0-2 5 4'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return " ".join("-".join(map(str, run)) for run in runs)


def pixels(value: float) -> str:
    """Return a number of pixels, rounded to tenths.

    Example:
        >>> [pixels(value) for value in (1.26, 10.04, -0.01)]
        ['1.3', '10', '0']
    """
    text = f"{value:.1f}"
    return "0" if text == "-0.0" else text.removesuffix(".0")
