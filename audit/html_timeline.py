"""The life of a ledger as one picture: Coordinators as bars, manifests and recoveries as marks, attestations below."""

from typing import Final

from audit.html_text import esc, when
from audit.report import History

WIDTH: Final = 1040
_LEFT: Final = 150
_RIGHT: Final = 20
_ROW: Final = 26
_TOP: Final = 34
_CHART: Final = 70
_SHOWN: Final = 40  # Coordinators; a ledger with more shows the newest.
_BINS: Final = 120


def timeline(history: History) -> str:
    """The picture as SVG; empty where nothing happened."""
    epochs = history.state.epochs[-_SHOWN:]
    if not epochs:
        return ""
    closed = {epoch.seq: _closing_time(history, epoch.closed_at) for epoch in epochs}
    first = min(epoch.time_ms for epoch in epochs)
    last = max(history.state.time_ms, first + 1)
    scale = _Scale(first, last)
    height = _TOP + _ROW * len(epochs) + 18 + _CHART + 24
    base = _TOP + _ROW * len(epochs)
    parts = [
        f'<svg class="timeline" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Coordinators and manifests">'
    ]
    for number, epoch in enumerate(epochs):
        y = _TOP + _ROW * number
        end = closed[epoch.seq]
        x, width = scale.x(epoch.time_ms), max(3.0, scale.x(last if end is None else end) - scale.x(epoch.time_ms))
        state = "open" if end is None else "closed"
        parts.append(
            f'<text x="0" y="{y + 15}">{esc(epoch.key.hex()[:8])} <tspan class="soft">entry {epoch.seq}</tspan></text>'
            f'<rect class="{state}" x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="16" rx="4">'
            f"<title>Coordinator {esc(epoch.key.hex())}, {esc(when(epoch.time_ms))} to "
            f"{'now' if end is None else esc(when(end))}</title></rect>"
        )
    labelled = -100.0
    for entry in history.manifests:
        x = scale.x(entry.time_ms)
        if entry.time_ms < first:
            continue
        parts.append(
            f'<line class="manifest" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 8}" y2="{base + 18 + _CHART}">'
            f"<title>manifest {entry.generation}, {esc(when(entry.time_ms))}</title></line>"
        )
        if x - labelled > 26:
            parts.append(f'<text class="mark" x="{x:.1f}" y="{_TOP - 14}">M{entry.generation}</text>')
            labelled = x
    for recovery in history.recoveries:
        x = scale.x(recovery.time_ms)
        parts.append(
            f'<path class="recovery" d="M{x:.1f} {base + 2} l5 9 l-10 0 z"><title>recovery at entry {recovery.seq}, '
            f"{esc(when(recovery.time_ms))}</title></path>"
        )
    parts.append(_attestations(history, scale, base + 18))
    parts.append(
        f'<text class="soft" x="{_LEFT}" y="{height - 4}">{esc(when(first))} UTC</text>'
        f'<text class="soft end" x="{WIDTH - _RIGHT}" y="{height - 4}">{esc(when(last))} UTC</text></svg>'
    )
    return "".join(parts)


class _Scale:
    def __init__(self, first: int, last: int) -> None:
        self.first, self.span = first, max(1, last - first)

    def x(self, time_ms: int) -> float:
        share = min(1.0, max(0.0, (time_ms - self.first) / self.span))
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)


def _attestations(history: History, scale: _Scale, top: float) -> str:
    """Bars of attestations, as many as can be told apart."""
    bins = [0] * _BINS
    for time_ms, number in history.times.items():
        share = min(1.0, max(0.0, (time_ms - scale.first) / scale.span))
        bins[min(_BINS - 1, int(share * _BINS))] += number
    most = max(bins)
    parts = [f'<text x="0" y="{top + _CHART / 2 + 4:.0f}">attestations</text>']
    if not most:
        return parts[0]
    width = (WIDTH - _LEFT - _RIGHT) / _BINS
    for at, number in enumerate(bins):
        if number:
            height = max(2.0, number / most * (_CHART - 6))
            parts.append(
                f'<rect class="bar" x="{_LEFT + at * width:.1f}" y="{top + _CHART - height:.1f}" '
                f'width="{max(1.5, width - 1):.1f}" height="{height:.1f}"><title>{number}</title></rect>'
            )
    parts.append(f'<text class="soft end" x="{_LEFT - 8}" y="{top + 10:.0f}">{most}</text>')
    return "".join(parts)


def _closing_time(history: History, closed_at: int | None) -> int | None:
    """When an epoch ended: the time of the manifest or recovery that closed it."""
    if closed_at is None:
        return None
    times = {item.seq: item.time_ms for item in history.manifests} | {
        item.seq: item.time_ms for item in history.recoveries
    }
    return times.get(closed_at, history.state.time_ms)
