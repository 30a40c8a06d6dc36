"""A small line chart as SVG text, for notebooks and files, without a plotting library."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 600, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 136, 16, 44  # the legend stands to the right of the axes
COLORS = ("#0b6e99", "#c2571a", "#3d7a3d", "#7a4b94", "#666666", "#b8336a", "#8a6d00", "#222222")

Line = Sequence[tuple[float, float]]


def chart(lines: Mapping[str, Line], marks: Mapping[str, float], across: str, up: str) -> str:
    """Return lines over a logarithmic horizontal axis, with vertical marks.

    Args:
        lines: name to points (x, y), x > 0; points that are not finite are left out.
        marks: name to the x of a vertical line.
        across: title of the horizontal axis.
        up: title of the vertical axis.

    Returns:
        An SVG element.

    Raises:
        ValueError: there is no finite point.
    """
    points = {name: [(x, y) for x, y in line if x > 0 and math.isfinite(y)] for name, line in lines.items()}
    every = [point for line in points.values() for point in line]
    if not every:
        raise ValueError("chart: needs at least one finite point.")
    xs = [math.log10(x) for x, _ in every] + [math.log10(x) for x in marks.values() if x > 0]
    ys = [y for _, y in every]
    low, high = min(xs) - 0.1, max(xs) + 0.1
    bottom, top = min(ys), max(ys)
    room = 0.08 * (top - bottom) or 0.1 * abs(top) or 1.0
    bottom, top = bottom - room, top + room

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (math.log10(x) - low) / (high - low) * (WIDTH - LEFT - RIGHT),
            TOP + (top - y) / (top - bottom) * (HEIGHT - TOP - BOTTOM),
        )

    parts = [_axes(low, high, bottom, top, (min(ys), (min(ys) + max(ys)) / 2, max(ys))), _titles(across, up)]
    names = list(points) + list(marks)
    for name, line in points.items():
        color = COLORS[names.index(name) % len(COLORS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in sorted(line)))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in (at(*p) for p in line)]
    for name, x in marks.items():
        color = COLORS[names.index(name) % len(COLORS)]
        place = at(x, top)[0]
        parts.append(
            f'<line x1="{place:.1f}" y1="{TOP}" x2="{place:.1f}" y2="{HEIGHT - BOTTOM}" stroke="{color}"'
            ' stroke-dasharray="4 3"/>'
        )
    parts += _legend(names)
    style = 'font-family="sans-serif" font-size="11" fill="#222"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" {style}>' + (
        '<rect width="100%" height="100%" fill="white"/>' + "".join(parts) + "</svg>"
    )


def _axes(low: float, high: float, bottom: float, top: float, values: Sequence[float]) -> str:
    right, base = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [f'<path d="M{LEFT},{TOP} V{base} H{right}" fill="none" stroke="#888"/>']
    for power in range(math.ceil(low), math.floor(high) + 1):
        x = LEFT + (power - low) / (high - low) * (right - LEFT)
        parts.append(f'<path d="M{x:.1f},{base} v4" stroke="#888"/>')
        parts.append(f'<text x="{x:.1f}" y="{base + 15}" text-anchor="middle">1e{power}</text>')
    for value in values:
        y = base - (value - bottom) / (top - bottom) * (base - TOP)
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    return "".join(parts)


def _titles(across: str, up: str) -> str:
    middle = (TOP + HEIGHT - BOTTOM) / 2
    return (
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(across)}</text>'
        f'<text transform="translate(13,{middle}) rotate(-90)" text-anchor="middle">{escape(up)}</text>'
    )


def _legend(names: list[str]) -> list[str]:
    parts = []
    for row, name in enumerate(names):
        y, color = TOP + 12 + 15 * row, COLORS[row % len(COLORS)]
        parts.append(f'<rect x="{WIDTH - RIGHT + 12}" y="{y - 8}" width="10" height="10" fill="{color}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 27}" y="{y + 1}">{escape(name)}</text>')
    return parts
