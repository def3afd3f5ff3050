"""Renders a snapshot in the Prometheus text format 0.0.4 and in OpenMetrics 1.0.0.

Each family's samples are rendered once per tick and joined into both formats: sample lines are
identical in both, only the header lines differ. Numbers and escapes are formatted as by
prometheus_client.
"""

import gzip
from collections.abc import Callable, Container, Sequence
from operator import add
from typing import NamedTuple

from exporter.expose.metrics import MetricFamily
from exporter.expose.process_collector import ProcessState
from exporter.expose.samples import Sample
from exporter.expose.snapshot_view import SnapshotView
from exporter.model.snapshot import Snapshot

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OPENMETRICS_END = b"# EOF\n"
INFINITY = float("inf")
NOT_FINITE = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}
EXPONENT_THRESHOLD = 1e6
"""Go formats numbers from this value on with an exponent."""


class RenderedFamily(NamedTuple):
    """One rendered metric family."""

    name: str
    text_head: bytes
    openmetrics_head: bytes
    body: bytes


class MetricsPage:
    """The rendered metrics of one tick. Joined on first use, then cached."""

    def __init__(self, parts: Sequence[RenderedFamily]) -> None:
        self._parts = parts
        self._joined: dict[bool, bytes] = {}

    def text(self) -> bytes:
        """Return all families in the text format."""
        return self.body(openmetrics=False)

    def openmetrics(self) -> bytes:
        """Return all families in the OpenMetrics format."""
        return self.body(openmetrics=True)

    def body(self, *, openmetrics: bool) -> bytes:
        """Return all families in the requested format."""
        if openmetrics not in self._joined:
            self._joined[openmetrics] = _join(self._parts, openmetrics=openmetrics)
        return self._joined[openmetrics]

    def gzipped(self, *, openmetrics: bool) -> bytes:
        """Return all families in the requested format, compressed with gzip; not cached.

        Level 1 takes a quarter of the time of the default level, and the output is half as large
        again.
        """
        return gzip.compress(self.body(openmetrics=openmetrics), compresslevel=1, mtime=0)

    def select(self, names: Container[str], *, openmetrics: bool) -> bytes:
        """Return only the families with these full names."""
        chosen = [part for part in self._parts if part.name in names]
        return _join(chosen, openmetrics=openmetrics)


class MetricsRenderer:
    """Renders snapshot views, and caches the constant part of each sample line."""

    def __init__(self, families: Sequence[MetricFamily]) -> None:
        self._writers = [_FamilyRenderer(family) for family in families]

    def render(self, view: SnapshotView) -> MetricsPage:
        """Render a view; families without samples are omitted."""
        formatted: dict[float, str] = {}
        parts = [writer.write(view, formatted) for writer in self._writers]
        return MetricsPage([part for part in parts if part.body])


class _FamilyRenderer:
    """Renders one family; caches its last output and the `name{labels} ` prefix of every series."""

    def __init__(self, family: MetricFamily) -> None:
        self._family = family
        is_counter = family.type == "counter"
        stem = family.name.removesuffix("_total") if is_counter else family.name
        help_text = _escape_controls(family.help)
        text_head = _family_header(family.name, family.type, help_text)
        openmetrics_head = _family_header(stem, family.type, help_text.replace('"', r"\""))
        self._samples: list[Sample] = []
        self._part = RenderedFamily(family.name, text_head, openmetrics_head, b"")
        self._labels: list[tuple[str, ...]] = []
        self._prefixes: list[str] = []

    def write(self, view: SnapshotView, formatted: dict[float, str]) -> RenderedFamily:
        """Render the family's samples.

        `formatted` caches formatted numbers: half of the numbers on a page occur twice.
        """
        samples = list(self._family.samples(view))
        if samples != self._samples:
            labels = [labels for labels, _ in samples]
            if labels != self._labels:
                cached = dict(zip(self._labels, self._prefixes, strict=True))
                self._prefixes = [cached.get(each) or self._prefix(each) for each in labels]
                self._labels = labels
            texts = []
            for _, value in samples:
                text = formatted.get(value)
                if text is None:
                    text = formatted[value] = format_number(value) + "\n"
                texts.append(text)
            lines = "".join(map(add, self._prefixes, texts))
            self._samples, self._part = samples, self._part._replace(body=lines.encode())
        return self._part

    def _prefix(self, labels: tuple[str, ...]) -> str:
        if not labels:
            return f"{self._family.name} "
        # sorted by name, as in prometheus_client
        pairs = sorted(zip(self._family.labels, labels, strict=True))
        text = ",".join(f'{name}="{escape_label(value)}"' for name, value in pairs)
        return f"{self._family.name}{{{text}}} "


def format_number(value: float) -> str:
    """Format a number as Go and prometheus_client do, for example `1.5e+06` or `+Inf`."""
    text = repr(float(value))
    if -INFINITY < value < EXPONENT_THRESHOLD:
        return text
    if text in NOT_FINITE:
        return NOT_FINITE[text]
    if "e" in text:
        return text
    whole, _, fraction = text.partition(".")
    mantissa = f"{whole[0]}.{whole[1:]}{fraction}".rstrip("0.")
    return f"{mantissa}e+{len(whole) - 1:02d}"


def escape_label(value: str) -> str:
    """Escape a label value for use between quotes; bytes that are not UTF-8 become escapes."""
    if not value.isascii():
        value = value.encode("utf-8", "backslashreplace").decode()
    return _escape_controls(value).replace('"', r"\"")


def _escape_controls(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _family_header(name: str, kind: str, escaped_help: str) -> bytes:
    return f"# HELP {name} {escaped_help}\n# TYPE {name} {kind}\n".encode()


def _join(parts: Sequence[RenderedFamily], *, openmetrics: bool) -> bytes:
    pieces: list[bytes] = []
    for part in parts:
        pieces += (part.openmetrics_head if openmetrics else part.text_head, part.body)
    if openmetrics:
        pieces.append(OPENMETRICS_END)
    return b"".join(pieces)


class PublishedTick(NamedTuple):
    """One tick as a snapshot, as sums and as rendered metrics."""

    snapshot: Snapshot
    view: SnapshotView
    metrics_page: MetricsPage


class SnapshotPublisher:
    """Holds the latest published tick. Written by the loop only, read from any thread."""

    def __init__(
        self,
        families: Sequence[MetricFamily],
        process: Callable[[], ProcessState | None] = lambda: None,
    ) -> None:
        self._renderer = MetricsRenderer(families)
        self._process = process
        self.current: PublishedTick | None = None
        """None until the first tick."""

    def publish(self, snapshot: Snapshot) -> None:
        """Render a snapshot and replace the published tick."""
        view = SnapshotView(snapshot, self._process())
        self.current = PublishedTick(snapshot, view, self._renderer.render(view))
