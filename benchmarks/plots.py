"""Plots of build/bench.json as SVG, written by hand: no plotting library is needed for a few lines. ``make plots``.

``docs/images/ledger-audit.svg`` and ``docs/images/ledger-append.svg``: cost against the size of the ledger, both axes
logarithmic, so that what costs the same for each event is a horizontal line. Measures the sizes first where the file
has none.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from benchmarks import ledger_sizes
from benchmarks.__main__ import OUTPUT

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 64, 60
COLOURS = ("#1b6ca8", "#c2571a", "#4d7c3a")


@dataclass(frozen=True, slots=True)
class Line:
    """One measured series: its name and (size, value) points."""

    name: str
    points: Sequence[tuple[float, float]]


def plot(title: str, unit: str, lines: Sequence[Line]) -> str:
    """An SVG document: *lines* over the number of events."""
    values = [value for line in lines for _, value in line.points]
    sizes = [size for line in lines for size, _ in line.points]
    low, high = _decade(min(values), down=True), _decade(max(values), down=False)
    first, last = _decade(min(sizes), down=True), _decade(max(sizes), down=False)

    def across(size: float) -> float:
        return LEFT + _share(size, first, last) * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - _share(value, low, high) * (HEIGHT - TOP - BOTTOM)

    middle = (LEFT + WIDTH - RIGHT) // 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-size="13">',
        "<style>text{font-family:sans-serif}</style>",
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="28" font-size="16" fill="#222222">{escape(title)}</text>',
        f'<text x="{LEFT - 52}" y="{TOP - 9}" fill="#555555">{escape(unit)}</text>',
        f'<text x="{middle}" y="{HEIGHT - 14}" text-anchor="middle" fill="#555555">events</text>',
    ]
    for value in _ticks(low, high):
        y = up(value)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#555555">{value:g}</text>')
    for size in _ticks(first, last):
        x = across(size)
        parts.append(f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#eeeeee"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle" fill="#555555">{_short(size)}</text>'
        )
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        places = [(across(size), up(value)) for size, value in line.points]
        route = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{route}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in places]
        y = TOP + 14 + 20 * number
        parts.append(f'<path d="M{WIDTH - RIGHT + 12} {y - 4}h18" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 36}" y="{y}" fill="#222222">{escape(line.name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def plots(points: Sequence[dict[str, Any]]) -> dict[str, str]:
    """File name -> SVG, of the points of the row ``ledger.sizes``."""

    def series(name: str, field: str) -> Line:
        return Line(name, [(point["events"], point[field]) for point in points])

    return {
        "ledger-audit.svg": plot(
            "Checking the structure of a ledger, one process", "µs CPU per event",
            [series("audit", "audit_us"), series("bare hashing", "bare_us")],
        ),
        "ledger-append.svg": plot(
            "One durable event, one client", "ms",
            [
                series("append, p99", "append_p99_ms"), series("append, median", "append_p50_ms"),
                series("bare fdatasync", "fdatasync_ms"),
            ],
        ),
    }  # fmt: skip


def _decade(value: float, *, down: bool) -> float:
    exponent = math.log10(value)
    return float(10 ** (math.floor(exponent + 1e-9) if down else math.ceil(exponent - 1e-9)))


def _ticks(low: float, high: float) -> list[float]:
    exponents = range(round(math.log10(low)), round(math.log10(high)) + 1)
    return [10.0**exponent for exponent in exponents]


def _share(value: float, low: float, high: float) -> float:
    return math.log10(value / low) / math.log10(high / low) if high > low else 0.5


def _short(size: float) -> str:
    return f"{size / 1e6:g} M" if size >= 1e6 else f"{size / 1e3:g} k"


def main() -> None:
    rows = json.loads(OUTPUT.read_text("utf-8")) if OUTPUT.is_file() else {}
    if ledger_sizes.ROW not in rows:
        ledger_sizes.main()
        rows = json.loads(OUTPUT.read_text("utf-8"))
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, text in plots(rows[ledger_sizes.ROW]["points"]).items():
        (IMAGES / name).write_text(text, "utf-8")
        print(IMAGES / name)


if __name__ == "__main__":
    main()
