"""The collector for programs that embed the exporter."""

from prometheus_client import CollectorRegistry

from exporter.expose.metrics import PREFIX, metric_families
from exporter.expose.prometheus_collector import PrometheusCollector
from exporter.expose.snapshot_view import SnapshotView


def test_nothing_is_collected_before_the_first_tick():
    collector = PrometheusCollector(metric_families(), lambda: None)
    assert list(collector.collect()) == []


def test_registering_does_not_read():
    def latest():
        raise AssertionError

    CollectorRegistry().register(PrometheusCollector(metric_families(), latest))


def test_values_are_those_of_the_view(made):
    registry = CollectorRegistry()
    own = [family for family in metric_families() if family.name.startswith(PREFIX)]
    registry.register(PrometheusCollector(own, lambda: SnapshotView(made.gpu_node())))
    labels = {"run_id": "bert", "job_id": "42", "device": "dram", "id": ""}
    assert registry.get_sample_value("emissions_run_energy_joules_total", labels) == 0.25
