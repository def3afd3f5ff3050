"""What a real Prometheus and the daemon's own answers say of a minute of known truth."""

import pytest

from exporter.expose.catalogue import catalogue
from tests.real.conftest import Scene

DEVICES = ["package-0", "package-1", "package-0-dram", "package-1-dram"]
TOLERANCE = 0.005
DURABLE = [family.name for family in catalogue() if family.durable]


def device(snapshot: dict, name: str) -> dict:
    (found,) = [device for device in snapshot["devices"] if device["id"] == name]
    return found


def read_ns(snapshot: dict, name: str) -> int:
    return snapshot["at_ns"] - round(device(snapshot, name)["age_seconds"] * 1e9)


def measured_uj(scene: Scene, name: str, begin: dict, end: dict) -> tuple[int, int]:
    """What was counted between two snapshots, and the truth between their readings."""
    counted = (
        device(end, name)["counted"]["energy_uj"] - device(begin, name)["counted"]["energy_uj"]
    )
    truth = scene.truth.used_uj(name, read_ns(end, name)) - scene.truth.used_uj(
        name, read_ns(begin, name)
    )
    return counted, truth


@pytest.mark.parametrize("name", DEVICES)
def test_energy_is_the_truth_within_half_a_percent(scene: Scene, name: str) -> None:
    counted, truth = measured_uj(scene, name, scene.first, scene.before_kill)
    assert counted == pytest.approx(truth, rel=TOLERANCE)


@pytest.mark.parametrize("name", DEVICES)
def test_energy_is_the_truth_over_a_kill_and_an_absence(scene: Scene, name: str) -> None:
    counted, truth = measured_uj(scene, name, scene.first, scene.last)
    assert counted == pytest.approx(truth, rel=TOLERANCE)


def test_the_wrap_was_seen_once(scene: Scene) -> None:
    assert device(scene.before_kill, "package-0")["events"]["wrap"] == 1


@pytest.mark.parametrize("when", ["first", "before_kill", "after_kill", "last"])
def test_a_device_is_its_attributed_and_unattributed_parts_exactly(scene: Scene, when: str) -> None:
    for row in getattr(scene, when)["devices"]:
        for amounts in (row["counted"], row["cumulative"]):
            parts_uj = amounts["attributed_uj"] + sum(amounts["unattributed_uj"].values())
            parts_ng = amounts["attributed_ng"] + sum(amounts["unattributed_ng"].values())
            assert (parts_uj, parts_ng) == (amounts["energy_uj"], amounts["carbon_ng"])


def test_no_total_was_lost_by_the_kill(scene: Scene) -> None:
    for name in DEVICES:
        before = device(scene.before_kill, name)["counted"]["energy_uj"]
        assert device(scene.after_kill, name)["counted"]["energy_uj"] >= before


@pytest.mark.parametrize("name", DURABLE)
def test_no_durable_counter_was_reset(scene: Scene, name: str) -> None:
    series = scene.prometheus.query(f"resets({name}[1h])")
    assert series or name not in present(scene)
    assert {row["value"][1] for row in series} <= {"0"}


def present(scene: Scene) -> set[str]:
    rows = scene.prometheus.query('count by (__name__) ({__name__=~"emissions_.+"})')
    return {row["metric"]["__name__"] for row in rows}


def test_both_daemons_and_their_runs_are_among_the_durable_counters(scene: Scene) -> None:
    rows = scene.prometheus.query("resets(emissions_run_energy_joules_total[1h])")
    runs = {(row["metric"]["instance"], row["metric"]["run_id"]) for row in rows}
    assert {("rapl", "long"), ("rapl", "short"), ("estimated", "also")} <= runs


def test_a_receipt_matches_prometheus_and_the_api(scene: Scene) -> None:
    joules = scene.record["energy_joules"]
    shown = scene.prometheus.value(
        'sum(max_over_time(emissions_run_energy_joules_total{instance="rapl",run_id="short"}[1h]))'
    )
    answer = scene.rapl.json("/api/v1/runs/short")["energy_joules"]
    assert joules > 0
    assert shown == pytest.approx(joules, rel=1e-9)
    assert answer == pytest.approx(joules, rel=1e-9)


def test_a_receipt_says_joules_grams_method_and_where_the_intensity_comes_from(
    scene: Scene,
) -> None:
    for text in ("J", "g CO2eq", "measured by the hardware's own counter", "g/kWh", "WORLD"):
        assert text in scene.receipt


def test_a_run_that_lived_through_the_kill_is_one_run(scene: Scene) -> None:
    run = scene.rapl.json("/api/v1/runs/long?job_id=j1")
    assert run["ended"] is not None
    assert run["duration_seconds"] > 40
    before = next(run for run in scene.before_kill["runs"] if run["run_id"] == "long")
    assert run["started"] == pytest.approx(before["started"], abs=0.001)
    assert run["energy_uj"] > before["energy_uj"]


def test_the_absence_is_told_apart(scene: Scene) -> None:
    for name in DEVICES:
        reasons = device(scene.last, name)["counted"]["unattributed_uj"]
        assert reasons["restart"] > 0


def test_the_page_is_accepted_by_prometheus(scene: Scene) -> None:
    assert scene.prometheus.value('min(up{job="emissions-exporter"})') == 1
