"""Where the lines of a scale stand."""

import math
from datetime import UTC, datetime

from dashboards.preview.span import NICE_SECONDS, Span

Y_PIXELS, X_PIXELS = 42.0, 85.0
"""Least room of one mark."""


def marks(low: float, high: float, height: float, unit: str) -> list[float]:
    """Round numbers between two values, as many as there is room for."""
    wanted = (high - low) / max(height / Y_PIXELS, 1)
    if unit == "s" and wanted > 1:
        step = next((nice for nice in NICE_SECONDS if nice >= wanted), wanted)
    else:
        base = 1024 ** math.floor(math.log(wanted, 1024)) if unit == "bytes" else 1
        ten = 10 ** math.floor(math.log10(wanted / base))
        step = base * ten * next(n for n in (1, 2, 5, 10) if n * ten * base >= wanted * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [at * step for at in range(first, math.floor(high / step + 1e-9) + 1)]


def times(span: Span, width: float) -> list[tuple[float, str]]:
    """Round times within a span, from 0 to 1, and how they are written; UTC."""
    wanted = span.seconds / max(width / X_PIXELS, 1)
    step = next((nice for nice in NICE_SECONDS if nice >= max(wanted, 1)), wanted)
    form = "%H:%M:%S" if step < 60 else "%H:%M" if span.seconds < 86400 else "%m/%d %H:%M"
    first = math.ceil(span.start / step)
    return [
        (
            (at * step - span.start) / span.seconds,
            datetime.fromtimestamp(at * step, UTC).strftime(form),
        )
        for at in range(first, math.floor(span.end / step) + 1)
    ]
