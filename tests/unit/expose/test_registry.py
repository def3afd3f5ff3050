"""The collector for programs that embed the exporter."""

from prometheus_client import CollectorRegistry

from exporter.expose.catalogue import PREFIX, catalogue
from exporter.expose.registry import ViewCollector
from exporter.expose.view import View


def test_nothing_is_collected_before_the_first_tick():
    collector = ViewCollector(catalogue(), lambda: None)
    assert list(collector.collect()) == []


def test_registering_does_not_read():
    def latest():
        raise AssertionError

    CollectorRegistry().register(ViewCollector(catalogue(), latest))


def test_values_are_those_of_the_view(made):
    registry = CollectorRegistry()
    own = [family for family in catalogue() if family.name.startswith(PREFIX)]
    registry.register(ViewCollector(own, lambda: View(made.gpu_node())))
    labels = {"run_id": "bert", "job_id": "42", "device": "dram", "id": ""}
    assert registry.get_sample_value("emissions_run_energy_joules_total", labels) == 0.25
