"""Renders a snapshot in the Prometheus text format 0.0.4 and in OpenMetrics 1.0.0.

Each family's samples are rendered once per tick, and joined into a page in either format when it is
requested: sample lines are identical in both, only the header lines differ. Numbers and escapes are
formatted as by prometheus_client.
"""

import gzip
from collections.abc import Callable, Container, Sequence
from itertools import chain
from typing import NamedTuple

from exporter.expose.metrics import MetricFamily
from exporter.expose.process_collector import ProcessState
from exporter.expose.samples import RunSamples, SampleFunction, TallySamples
from exporter.expose.snapshot_view import SnapshotView
from exporter.model.snapshot import Snapshot

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OPENMETRICS_END = "# EOF\n"
INFINITY = float("inf")
NOT_FINITE = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}
EXPONENT_THRESHOLD = 1e6
"""Go formats numbers from this value on with an exponent."""


class RenderedFamily(NamedTuple):
    """One rendered metric family."""

    name: str
    text_head: str
    openmetrics_head: str
    prefixes: Sequence[str] = ()
    """`name{labels} ` of each sample line."""
    numbers: Sequence[str] = ()
    """The rest of each line."""


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
    """Renders snapshot views; what has not changed since the last view is not rendered again."""

    def __init__(self, families: Sequence[MetricFamily]) -> None:
        self._writers = [_FamilyRenderer(family) for family in families]

    def render(self, view: SnapshotView) -> MetricsPage:
        """Render a view; families without samples are omitted."""
        formatted: dict[float, str] = {}
        parts = [writer.write(view, formatted) for writer in self._writers]
        return MetricsPage([part for part in parts if part.numbers])


class _FamilyRenderer:
    """Renders one family; caches its last output and the values from which it was rendered."""

    def __init__(self, family: MetricFamily) -> None:
        self._family = family
        is_counter = family.type == "counter"
        stem = family.name.removesuffix("_total") if is_counter else family.name
        help_text = _escape_controls(family.help)
        text_head = _family_header(family.name, family.type, help_text)
        openmetrics_head = _family_header(stem, family.type, help_text.replace('"', r"\""))
        self._runs: object = None
        self._part = RenderedFamily(family.name, text_head, openmetrics_head)
        self._labels: Sequence[tuple[str, ...]] = ()
        self._values: Sequence[float] = ()

    def write(self, view: SnapshotView, formatted: dict[float, str]) -> RenderedFamily:
        """Render the family's samples.

        `formatted` caches formatted numbers: half of the numbers on a page occur twice.
        """
        if isinstance(self._family.samples, RunSamples):
            runs = view.snapshot.runs, view.snapshot.members
            if runs == self._runs:
                return self._part
            self._runs = runs
        labels, values = _columns(self._family.samples, view)
        if labels != self._labels:
            cached = dict(zip(self._labels, self._part.prefixes, strict=True))
            self._part = self._part._replace(
                prefixes=[cached.get(each) or self._prefix(each) for each in labels],
                numbers=[_format_line_end(value, formatted) for value in values],
            )
        elif values != self._values:
            numbers = [*self._part.numbers]  # those of the last page may be in use
            for index, (value, before) in enumerate(zip(values, self._values, strict=True)):
                if value != before:
                    numbers[index] = _format_line_end(value, formatted)
            self._part = self._part._replace(numbers=numbers)
        self._labels, self._values = labels, values
        return self._part

    def _prefix(self, labels: tuple[str, ...]) -> str:
        if not labels:
            return f"{self._family.name} "
        # sorted by name, as in prometheus_client
        pairs = sorted(zip(self._family.labels, labels, strict=True))
        text = ",".join(f'{name}="{escape_label(value)}"' for name, value in pairs)
        return f"{self._family.name}{{{text}}} "


def _columns(
    samples: SampleFunction, view: SnapshotView
) -> tuple[Sequence[tuple[str, ...]], Sequence[float]]:
    """Return label values and numbers of the samples of a view."""
    if isinstance(samples, TallySamples):
        labels, tallies = samples.columns(view)
        return labels, samples.values(tallies)
    rows = list(samples(view))
    return [labels for labels, _ in rows], [value for _, value in rows]


def _format_line_end(value: float, formatted: dict[float, str]) -> str:
    """Format a number and a line end, unless `formatted` has them."""
    text = formatted.get(value)
    if text is None:
        text = formatted[value] = format_number(value) + "\n"
    return text


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


def _family_header(name: str, kind: str, escaped_help: str) -> str:
    return f"# HELP {name} {escaped_help}\n# TYPE {name} {kind}\n"


def _join(parts: Sequence[RenderedFamily], *, openmetrics: bool) -> bytes:
    pieces: list[str] = []
    for part in parts:
        pieces.append(part.openmetrics_head if openmetrics else part.text_head)
        pieces += chain.from_iterable(zip(part.prefixes, part.numbers, strict=True))
    if openmetrics:
        pieces.append(OPENMETRICS_END)
    return "".join(pieces).encode()


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
        before = self.current.view if self.current is not None else None
        view = SnapshotView(snapshot, self._process(), before)
        self.current = PublishedTick(snapshot, view, self._renderer.render(view))
