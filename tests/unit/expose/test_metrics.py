"""The metric catalog is a stable interface."""

import re

import pytest

from exporter.errors import ConfigError
from exporter.expose.metrics import PREFIX, metric_families
from exporter.expose.snapshot_view import SnapshotView

CONTRACT = {
    "device_info": ("gauge", "device id model vendor source index pci_bus_id"),
    "device_power_watts": ("gauge", "device id"),
    "device_power_limit_watts": ("gauge", "device id"),
    "device_utilization_ratio": ("gauge", "device id"),
    "device_energy_joules_total": ("counter", "device id method"),
    "device_carbon_grams_total": ("counter", "device id"),
    "device_cumulative_energy_joules": ("gauge", "device id"),
    "device_cumulative_carbon_grams": ("gauge", "device id"),
    "device_up": ("gauge", "device id"),
    "device_sample_age_seconds": ("gauge", "device id"),
    "device_energy_events_total": ("counter", "device id event"),
    "node_energy_joules_total": ("counter", "method source"),
    "attributed_energy_joules_total": ("counter", "device id"),
    "attributed_carbon_grams_total": ("counter", "device id"),
    "unattributed_energy_joules_total": ("counter", "device id reason"),
    "unattributed_carbon_grams_total": ("counter", "device id reason"),
    "unattributed_power_watts": ("gauge", "device id reason"),
    "run_info": ("gauge", "run_id job_id run_name user workload_namespace origin account"),
    "run_member_info": ("gauge", "run_id job_id workload_pod workload_container"),
    "run_power_watts": ("gauge", "run_id job_id device id"),
    "run_energy_joules_total": ("counter", "run_id job_id device id"),
    "run_carbon_grams_total": ("counter", "run_id job_id device id"),
    "run_held_idle_energy_joules_total": ("counter", "run_id job_id device"),
    "run_cumulative_energy_joules": ("gauge", "run_id job_id device id"),
    "run_cumulative_carbon_grams": ("gauge", "run_id job_id"),
    "run_start_time_seconds": ("gauge", "run_id job_id"),
    "run_end_time_seconds": ("gauge", "run_id job_id"),
    "run_budget_grams": ("gauge", "run_id job_id"),
    "run_units_total": ("counter", "run_id job_id unit"),
    "run_forecast_grams": ("gauge", "run_id job_id"),
    "run_forecast_end_time_seconds": ("gauge", "run_id job_id"),
    "run_forecast_energy_joules": ("gauge", "run_id job_id"),
    "run_forecast_bound_grams": ("gauge", "run_id job_id bound"),
    "run_forecast_bound_energy_joules": ("gauge", "run_id job_id bound"),
    "run_forecast_bound_end_time_seconds": ("gauge", "run_id job_id bound"),
    "owner_energy_joules_total": ("counter", "user workload_namespace"),
    "owner_carbon_grams_total": ("counter", "user workload_namespace"),
    "grid_intensity_grams_per_kwh": ("gauge", "grid_zone signal basis accounting"),
    "grid_intensity_age_seconds": ("gauge", "grid_zone signal basis accounting"),
    "grid_intensity_fallback_step": ("gauge", "grid_zone signal basis accounting"),
    "grid_intensity_info": ("gauge", "grid_zone signal basis accounting source estimated"),
    "grid_intensity_requests_total": ("counter", "source outcome"),
    "pue_ratio": ("gauge", ""),
    "attribution_imbalance_joules": ("gauge", ""),
    "collector_success": ("gauge", "collector"),
    "config_last_reload_successful": ("gauge", ""),
    "collector_duration_seconds": ("gauge", "collector"),
    "driver_calls_total": ("counter", "call"),
    "driver_call_seconds_total": ("counter", "call"),
    "loop_duration_seconds": ("gauge", ""),
    "loop_overruns_total": ("counter", ""),
    "ledger_errors_total": ("counter", ""),
    "ledger_commit_age_seconds": ("gauge", ""),
    "series_dropped_total": ("counter", ""),
    "exporter_energy_joules_total": ("counter", ""),
    "exporter_build_info": ("gauge", "version python"),
}
PROCESS = {
    "process_cpu_seconds_total": ("counter", ""),
    "process_resident_memory_bytes": ("gauge", ""),
    "process_open_fds": ("gauge", ""),
    "process_start_time_seconds": ("gauge", ""),
}
UNITS = ("joules", "watts", "grams", "grams_per_kwh", "seconds", "bytes", "ratio", "info", "total")
COUNTS = (
    "device_up",
    "collector_success",
    "config_last_reload_successful",
    "grid_intensity_fallback_step",
    "process_open_fds",
)
DURABLE = ("_joules_total", "_grams_total", "_units_total")
FAMILIES = metric_families()


def test_names_types_and_labels_are_the_contract():
    expected = {PREFIX + name: facts for name, facts in CONTRACT.items()} | PROCESS
    assert {f.name: (f.type, " ".join(f.labels)) for f in FAMILIES} == expected


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
class TestEveryFamily:
    def test_ends_in_total_if_and_only_if_it_is_a_counter(self, family):
        assert family.name.endswith("_total") == (family.type == "counter")

    def test_ends_in_a_base_unit(self, family):
        name = family.name.removeprefix(PREFIX)
        assert name in COUNTS or name.endswith(UNITS)

    def test_has_names_valid_in_prometheus(self, family):
        for name in (family.name, *family.labels):
            assert re.fullmatch("[a-z][a-z0-9_]*", name)

    def test_leaves_the_labels_of_targets_alone(self, family):
        taken = {"job", "instance", "namespace", "pod", "region", "zone", "cluster"}
        assert not taken & set(family.labels)

    def test_has_a_help_text_of_one_sentence(self, family):
        assert re.fullmatch(r"[A-Z][^\n\"\\]+\.", family.help)

    def test_names_its_unit(self, family):
        for unit in ("joules", "watts", "grams", "seconds", "bytes"):
            if f"_{unit}" in family.name and "_grams_per_kwh" not in family.name:
                assert unit in family.help

    def test_has_as_many_label_values_as_labels(self, family, made):
        for values, number in family.samples(SnapshotView(made.gpu_node())):
            assert len(values) == len(family.labels)
            assert isinstance(number, int | float)

    def test_has_no_series_twice(self, family, made):
        labels = [labels for labels, _ in family.samples(SnapshotView(made.gpu_node()))]
        assert len(labels) == len(set(labels))

    def test_has_samples_on_an_empty_machine_or_none(self, family, made):
        list(family.samples(SnapshotView(made.snapshot())))


def test_help_texts_are_unique():
    texts = [family.help for family in FAMILIES]
    assert len(texts) == len(set(texts))


def test_no_gauge_has_the_stem_of_a_counter():
    stems = [family.name.removesuffix("_total") for family in FAMILIES]
    assert len(stems) == len(set(stems))


def test_energy_and_emission_counters_are_durable_and_daemon_counters_are_not():
    durable = {f.name for f in FAMILIES if f.durable}
    totals = {f.name for f in FAMILIES if f.name.endswith(DURABLE)}
    assert durable == totals - {
        "emissions_exporter_energy_joules_total",
        "emissions_node_energy_joules_total",
    }


def test_exported_labels_become_labels_of_the_run(made):
    families = {f.name: f for f in metric_families(("team", "cost-centre"))}
    info = families["emissions_run_info"]
    assert info.labels[-2:] == ("label_team", "label_cost_centre")
    first, _ = next(iter(info.samples(SnapshotView(made.gpu_node()))))
    assert first[-2:] == ("nlp", "")


def test_a_run_whose_users_name_is_not_known_yet_has_no_info(made):
    (info,) = [f for f in FAMILIES if f.name == "emissions_run_info"]
    snapshot = made.gpu_node()
    nameless = tuple(run._replace(user="") for run in snapshot.runs)
    names = [
        labels[0] for labels, _ in info.samples(SnapshotView(snapshot._replace(runs=nameless)))
    ]
    assert names == [run.shown_id for run in snapshot.runs if run.key.uid < 0]


def test_exported_labels_with_the_same_name_are_rejected():
    with pytest.raises(ConfigError, match=r"'a-b' and 'a.b' would both become label_a_b"):
        metric_families(("a-b", "a.b"))
