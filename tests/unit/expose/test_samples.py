"""Samples of metric families, and when there are none."""

import pytest

from exporter.expose.metrics import metric_families
from exporter.expose.snapshot_view import SnapshotView
from exporter.model.runs import Progress, ProgressMark

FAMILIES = {family.name.removeprefix("emissions_"): family for family in metric_families()}


def show(name, snapshot):
    return {
        tuple(labels): value for labels, value in FAMILIES[name].samples(SnapshotView(snapshot))
    }


def test_an_unknown_power_is_absent_and_not_zero(made):
    powers = show("device_power_watts", made.gpu_node())
    assert ("gpu", "GPU-1") not in powers
    assert powers["cpu", "package-0"] == 50.0


def test_a_broken_device_is_down_and_stays_on_the_page(made):
    assert show("device_up", made.gpu_node())["gpu", "GPU-1"] == 0


def test_possible_events_are_zero_and_impossible_events_are_absent(made):
    events = show("device_energy_events_total", made.gpu_node())
    assert events == {("cpu", "package-0", "wrap"): 2, ("cpu", "package-0", "gap"): 0}


def test_counters_exclude_their_base_and_gauges_do_not(made):
    snapshot = made.gpu_node()
    labels = ("bert", "42", "cpu", "")
    assert show("run_energy_joules_total", snapshot)[labels] == pytest.approx(5.000002)
    assert show("run_cumulative_energy_joules", snapshot)[labels] == pytest.approx(7.000003)


def test_emissions_of_a_run_are_summed_over_its_devices(made):
    snapshot = made.gpu_node()
    whole = sum(r.balance.total.carbon_ng for r in snapshot.rows if r.target == made.BERT)
    assert show("run_cumulative_carbon_grams", snapshot)["bert", "42"] == whole / 1e9


def test_held_idle_energy_is_summed_over_gpus(made):
    assert show("run_held_idle_energy_joules_total", made.gpu_node())["bert", "42", "gpu"] == 600.0


def test_an_open_run_has_no_end(made):
    ends = show("run_end_time_seconds", made.gpu_node())
    assert ends == {("old", ""): made.WALL - 60}


def test_a_run_without_budget_has_none(made):
    assert show("run_budget_grams", made.gpu_node()) == {("bert", "42"): 500.0}


def test_a_forecast_is_of_open_runs_and_its_range_has_two_ends(made):
    def named(run, name):
        marks = [ProgressMark(n, 100.0 + n, 10**6 * n, 10**9 * n) for n in (0.0, 1.0, 2.0, 3.0)]
        progress = Progress(6.0, marks[0], marks[-1], tuple(marks[1:-1]))
        return show(name, made.snapshot(runs=(run._replace(progress=progress),)))

    run = made.gpu_node().runs[0]
    assert named(run, "run_forecast_energy_joules") == {("bert", "42"): 6.0}
    for name, value in {"grams": 6.0, "energy_joules": 6.0, "end_time_seconds": 106.0}.items():
        assert named(run, f"run_forecast_bound_{name}") == {
            ("bert", "42", "low"): value,
            ("bert", "42", "high"): value,
        }
        assert named(run._replace(ended=200.0), f"run_forecast_bound_{name}") == {}


def test_an_ended_run_has_no_power(made):
    assert {labels[0] for labels in show("run_power_watts", made.gpu_node())} == {"bert"}


def test_without_an_intensity_there_are_no_grid_samples(made):
    for name in ("grid_intensity_grams_per_kwh", "grid_intensity_info", "pue_ratio"):
        assert show(name, made.snapshot()) == {}


def test_the_intensity_has_its_kind_as_labels(made):
    assert show("grid_intensity_info", made.gpu_node()) == {
        ("DE", "average", "lifecycle", "location", "Ember 2025", "false"): 1
    }


def test_a_second_intensity_has_series_of_its_own(made):
    snapshot = made.snapshot(grid=made.live_grid())
    assert show("grid_intensity_grams_per_kwh", snapshot) == {
        ("DE", "average", "lifecycle", "location"): 344.0,
        ("DE", "average", "unstated", "market"): 12.0,
    }


def test_requests_to_sources_are_counted_by_outcome(made):
    assert show("grid_intensity_requests_total", made.snapshot(grid=made.live_grid())) == {
        ("electricity_maps", "ok"): 7,
        ("electricity_maps", "unauthorized"): 2,
        ("uk", "ok"): 0,
    }


def test_an_intensity_without_a_time_has_no_age(made):
    grid = made.IntensityState(made.FACTOR, None, "")
    assert show("grid_intensity_age_seconds", made.snapshot(grid=grid)) == {}


def test_collectors_export_success(made):
    assert show("collector_success", made.gpu_node()) == {("rapl",): 1, ("nvml",): 0}


def test_the_daemons_health_is_exported(made):
    health = made.DaemonHealth(imbalance_uj=1_500_000, loop_overruns=3)
    snapshot = made.snapshot(health=health)
    assert show("attribution_imbalance_joules", snapshot) == {(): 1.5}
    assert show("loop_overruns_total", snapshot) == {(): 3}
