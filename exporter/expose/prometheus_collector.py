"""The metrics as a prometheus_client Collector, for programs that embed the exporter.

The daemon renders its pages itself; the tests compare them with what this collector gives.
"""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from exporter.expose.metrics import MetricFamily
from exporter.expose.snapshot_view import SnapshotView


class PrometheusCollector(Collector):
    """Collects `families` of the latest view.

    A program whose registry has `process_*` already leaves those out of `families`.
    """

    def __init__(
        self, families: Sequence[MetricFamily], latest: Callable[[], SnapshotView | None]
    ) -> None:
        self._families = families
        self._latest = latest

    def describe(self) -> Iterable[Metric]:
        """The families without samples, so that registering does not read."""
        return [_metric(family) for family in self._families]

    def collect(self) -> Iterable[Metric]:
        """The families that have samples now."""
        view = self._latest()
        if view is None:
            return
        for family in self._families:
            metric = _metric(family)
            for labels, value in family.samples(view):
                named = dict(zip(family.labels, labels, strict=True))
                metric.add_sample(family.name, named, value)
            if metric.samples:
                yield metric


def _metric(family: MetricFamily) -> Metric:
    name = family.name.removesuffix("_total") if family.type == "counter" else family.name
    return Metric(name, family.help, family.type)
