"""The report's plots as SVG: drawn from numbers alone, nothing is fetched from anywhere."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, cos, floor, log10, radians
from typing import Any, Final

W: Final = 660
H: Final = 300
LEFT: Final = 74
RIGHT: Final = 18
TOP: Final = 18
BOTTOM: Final = 44
COLOURS: Final = ("#1b6ca8", "#d1495b", "#3a7d44", "#8d6a9f", "#c17c00", "#4a4a4a")
METRES_A_DEGREE: Final = 111_320.0

Pair = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """A line: its name, and a value for each of the plot's labels."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True)
class Dot:
    """A point of a scatter: what it stands for, and where."""

    name: str
    x: float
    y: float


class Axes:
    """Numbers to pixels, and the grid behind them."""

    def __init__(self, xs: Pair, ys: Pair) -> None:
        self.xs, self.ys = xs, ys

    def at(self, x: float, y: float) -> Pair:
        """The pixel of a value."""
        across = (x - self.xs[0]) / ((self.xs[1] - self.xs[0]) or 1)
        up = (y - self.ys[0]) / ((self.ys[1] - self.ys[0]) or 1)
        return LEFT + across * (W - LEFT - RIGHT), H - BOTTOM - up * (H - TOP - BOTTOM)

    def grid(self, x_name: str, y_name: str) -> list[str]:
        """Horizontal lines with their numbers, and the axes' names."""
        parts = []
        for tick in ticks(*self.ys):
            _, y = self.at(self.xs[0], tick)
            parts.append(f'<line class="g" x1="{LEFT}" x2="{W - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(text(LEFT - 8, y + 4, number(tick), "end"))
        parts.append(text((LEFT + W - RIGHT) / 2, H - 6, x_name, "middle", "n"))
        middle = (TOP + H - BOTTOM) / 2
        parts.append(
            f'<text class="n" text-anchor="middle" transform="translate(14 {middle:.0f}) rotate(-90)">'
            f"{html.escape(y_name)}</text>"
        )
        return parts


def line_plot(title: str, labels: Sequence[str], series: Sequence[Series], y_name: str) -> str:
    """Lines over labels that follow each other; one label is a row of points."""
    values = [value for line in series for value in line.values]
    # a single label stands in the middle
    axes = Axes((0, len(labels) - 1) if len(labels) > 1 else (-1, 1), _around(values))
    parts = axes.grid("", y_name)
    every = max(1, ceil(len(labels) / 8))
    for position, label in enumerate(labels):
        if position % every == 0:
            x, _ = axes.at(position, 0)
            parts.append(text(x, H - BOTTOM + 18, label, _anchor(x)))
    for index, line in enumerate(series):
        colour = COLOURS[index % len(COLOURS)]
        points = [axes.at(position, value) for position, value in enumerate(line.values)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        # lines that lie on each other are still told apart
        dashes = f' stroke-dasharray="{6 * index} 5"' if index else ""
        parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="{3.4 - index}" points="{path}"{dashes}/>'
        )
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{colour}"/>'
            for x, y in points[:: max(1, every)]
        ]
    return svg(title, parts) + legend([line.name for line in series])


def bar_plot(title: str, labels: Sequence[str], values: Sequence[float], x_name: str, y_name: str) -> str:
    """A bar for each label, its number above it."""
    axes = Axes((0, len(labels)), _around(values))
    parts = axes.grid(x_name, y_name)
    for position, (label, value) in enumerate(zip(labels, values, strict=True)):
        x, y = axes.at(position + 0.12, value)
        right, ground = axes.at(position + 0.88, 0)
        parts.append(
            f'<rect x="{x:.1f}" y="{min(y, ground):.1f}" width="{right - x:.1f}"'
            f' height="{abs(ground - y):.1f}" fill="{COLOURS[0]}"/>'
        )
        middle = (x + right) / 2
        parts.append(text(middle, H - BOTTOM + 16, label, "middle"))
        if value:
            parts.append(text(middle, y - 5, number(value), "middle"))
    return svg(title, parts)


def scatter_plot(title: str, dots: Sequence[Dot], x_name: str, y_name: str) -> str:
    """A point for each dot, named in the legend."""
    axes = Axes(_around([dot.x for dot in dots]), (0, 100))
    parts = axes.grid(x_name, y_name)
    for tick in ticks(*axes.xs):
        x, _ = axes.at(tick, 0)
        parts.append(text(x, H - BOTTOM + 16, number(tick), "middle"))
    for index, dot in enumerate(dots):
        x, y = axes.at(dot.x, dot.y)
        colour = COLOURS[index % len(COLOURS)]
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{colour}" fill-opacity=".85"/>')
        parts.append(text(x, y - 10, number(dot.y) + " %", "middle"))
    return svg(title, parts) + legend([dot.name for dot in dots])


def map_plot(title: str, geometries: Sequence[dict[str, Any]], points: Sequence[Pair]) -> str:
    """Polygons and points in longitude and latitude; what would be too small to see gets a dot."""
    rings = [ring for geometry in geometries for ring in _rings(geometry)]
    places = [tuple(place[:2]) for ring in rings for place in ring] + list(points)
    west, east = min(place[0] for place in places), max(place[0] for place in places)
    south, north = min(place[1] for place in places), max(place[1] for place in places)
    height = 380
    squeeze = max(0.05, cos(radians((south + north) / 2)))
    span = max((east - west) * squeeze / (W - LEFT - RIGHT), (north - south) / (height - TOP - BOTTOM), 1e-7)
    span *= 1.08
    mid_lon, mid_lat = (west + east) / 2, (south + north) / 2
    mid_x, mid_y = (LEFT + W - RIGHT) / 2, (TOP + height - BOTTOM) / 2

    def at(place: Sequence[float]) -> Pair:
        return mid_x + (place[0] - mid_lon) * squeeze / span, mid_y - (place[1] - mid_lat) / span

    frame = f'x="{LEFT}" y="{TOP}" width="{W - LEFT - RIGHT}" height="{height - TOP - BOTTOM}"'
    parts = [f'<rect class="f" {frame}/>', f'<clipPath id="m"><rect {frame}/></clipPath>']
    half_lon, half_lat = (W - LEFT - RIGHT) / 2 * span / squeeze, (height - TOP - BOTTOM) / 2 * span
    across = ticks(mid_lon - half_lon, mid_lon + half_lon, 4)
    for tick, label in zip(across, degrees(across), strict=True):
        x, _ = at((tick, mid_lat))
        parts.append(f'<line class="g" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>')
        parts.append(text(x, height - BOTTOM + 16, label, "middle"))
    up = ticks(mid_lat - half_lat, mid_lat + half_lat, 5)
    for tick, label in zip(up, degrees(up), strict=True):
        _, y = at((mid_lon, tick))
        parts.append(f'<line class="g" x1="{LEFT}" x2="{W - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text(LEFT - 8, y + 4, label, "end"))
    parts.append('<g clip-path="url(#m)">')
    for ring in rings:
        pixels = [at(place) for place in ring]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
        parts.append(
            f'<polygon points="{path}" fill="{COLOURS[1]}" fill-opacity=".35" stroke="{COLOURS[1]}"/>'
        )
        if max(x for x, _ in pixels) - min(x for x, _ in pixels) < 4:
            parts.append(_dot(pixels[0], COLOURS[1]))
    parts += [_dot(at(place), COLOURS[0]) for place in points]
    parts.append("</g>")
    parts += _scale_bar(span, height)
    names = (["polygons of orders"] if rings else []) + (["patches bought alone"] if points else [])
    colours = ([COLOURS[1]] if rings else []) + ([COLOURS[0]] if points else [])
    return svg(title, parts, height) + legend(names, colours)


def _dot(place: Pair, colour: str) -> str:
    return f'<circle cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="3" fill="{colour}"/>'


def _rings(geometry: dict[str, Any]) -> list[Any]:
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    return [ring for part in parts for ring in part]


def _scale_bar(span: float, height: int) -> list[str]:
    metres_a_pixel = span * METRES_A_DEGREE
    length = _round_down(metres_a_pixel * 130)
    pixels = length / metres_a_pixel
    shown = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    y = height - BOTTOM - 12
    return [
        f'<line x1="{LEFT + 12}" x2="{LEFT + 12 + pixels:.1f}" y1="{y}" y2="{y}" stroke="#222"'
        ' stroke-width="3"/>',
        text(LEFT + 12, y - 7, shown, "start"),
    ]


def _round_down(value: float) -> float:
    power = 10.0 ** floor(log10(value))
    return max(step * power for step in (1, 2, 5) if step * power <= value)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between two values."""
    if high <= low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** floor(log10(raw))
    step = next((s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw), 10 * power)
    first = ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, floor(high / step + 1e-9) + 1)]


def degrees(values: Sequence[float]) -> list[str]:
    """Degrees with as many digits as tell them all exactly, the same for each."""
    digits = next((n for n in range(12) if all(abs(round(v, n) - v) < 1e-10 for v in values)), 12)
    return [f"{value:.{digits}f}°" for value in values]


def _around(values: Sequence[float]) -> Pair:
    """0 and all values, with a little room above."""
    low, high = min([0.0, *values]), max([0.0, *values])
    if low == high:
        return 0.0, 1.0
    return low * 1.05, high * 1.12


def number(value: float) -> str:
    """A number as short as can be read."""
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        return f"{value:.3g}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def text(x: float, y: float, content: str, anchor: str, kind: str = "") -> str:
    """A text; everything that is written passes here and is escaped."""
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(content)}</text>'


def _anchor(x: float) -> str:
    return "start" if x < LEFT + 10 else "end" if x > W - RIGHT - 10 else "middle"


def svg(title: str, parts: Sequence[str], height: int = H) -> str:
    """A drawing with a name for those who cannot see it."""
    name = html.escape(title)
    return (
        f'<svg viewBox="0 0 {W} {height}" role="img" aria-label="{name}"><title>{name}</title>'
        f"{''.join(parts)}</svg>"
    )


def legend(names: Sequence[str], colours: Sequence[str] = COLOURS) -> str:
    """What the colours stand for."""
    items = [
        f'<li><span style="background:{colours[i % len(colours)]}"></span>{html.escape(name)}</li>'
        for i, name in enumerate(names)
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'
