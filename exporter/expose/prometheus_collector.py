"""A prometheus_client Collector of the metrics, for programs that embed the exporter.

The daemon renders its metrics itself; tests compare them with the output of this collector.
"""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from exporter.expose.metrics import MetricFamily
from exporter.expose.snapshot_view import SnapshotView


class PrometheusCollector(Collector):
    """Collects `families` of the latest snapshot view.

    If the registry already has `process_*` metrics, omit them from `families`.
    """

    def __init__(
        self, families: Sequence[MetricFamily], latest: Callable[[], SnapshotView | None]
    ) -> None:
        self._families = families
        self._latest = latest

    def describe(self) -> Iterable[Metric]:
        """Return the families without samples, so that registering reads nothing."""
        return [_metric(family) for family in self._families]

    def collect(self) -> Iterable[Metric]:
        """Return the families that have samples."""
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
