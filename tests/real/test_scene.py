"""What a real Prometheus and the daemon's own answers say of a minute of known truth."""

from itertools import pairwise

import pytest

from exporter.expose.metrics import metric_families
from tests.real.conftest import MOMENTS, Scene
from tests.real.parts import until

DEVICES = ["package-0", "package-1", "package-0-dram", "package-1-dram"]
TOLERANCE = 0.005
ROUNDING_JOULES = 1e-6
"""What adding floats may miss of integers."""
SAME_WORK = 0.1
DURABLE = [family.name for family in metric_families() if family.durable]


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
    begin_uj, end_uj = (scene.shown_uj(name, read_ns(moment, name)) for moment in (begin, end))
    return counted, end_uj - begin_uj


@pytest.mark.parametrize("name", DEVICES)
def test_energy_is_the_truth_within_half_a_percent(scene: Scene, name: str) -> None:
    counted, truth = measured_uj(
        scene, name, scene.snapshots["first"], scene.snapshots["before_kill"]
    )
    assert counted == pytest.approx(truth, rel=TOLERANCE)


@pytest.mark.parametrize("name", DEVICES)
def test_energy_is_the_truth_over_a_kill_and_an_absence(scene: Scene, name: str) -> None:
    counted, truth = measured_uj(scene, name, scene.snapshots["first"], scene.snapshots["last"])
    assert counted == pytest.approx(truth, rel=TOLERANCE)


def test_the_wrap_was_seen_once(scene: Scene) -> None:
    assert device(scene.snapshots["before_kill"], "package-0")["events"]["wrap"] == 1


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_device_is_its_attributed_and_unattributed_parts_exactly(
    scene: Scene, moment: str
) -> None:
    for row in scene.snapshots[moment]["devices"]:
        for amounts in (row["counted"], row["cumulative"]):
            parts_uj = amounts["attributed_uj"] + sum(amounts["unattributed_uj"].values())
            parts_ng = amounts["attributed_ng"] + sum(amounts["unattributed_ng"].values())
            assert (parts_uj, parts_ng) == (amounts["energy_uj"], amounts["carbon_ng"])


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_device_is_the_sum_of_its_runs_and_the_unattributed_exactly(
    scene: Scene, moment: str
) -> None:
    snapshot = scene.snapshots[moment]
    for name in DEVICES:
        for amounts in ("counted", "cumulative"):
            energies = [
                line[amounts]["energy_uj"] for line in snapshot["lines"] if line["id"] == name
            ]
            assert sum(energies) == device(snapshot, name)[amounts]["energy_uj"]


def test_the_parts_add_up_at_every_scrape(scene: Scene) -> None:
    parts = " + ".join(
        f"sum by (instance, device, id) (emissions_{part}_energy_joules_total)"
        for part in ("attributed", "unattributed")
    )
    whole = "sum by (instance, device, id) (emissions_device_energy_joules_total)"
    missing = scene.prometheus.query(f"max_over_time(abs({whole} - ({parts}))[5m:1s])")
    assert len(missing) > len(DEVICES)  # those of both daemons
    assert max(float(row["value"][1]) for row in missing) < ROUNDING_JOULES


def test_no_total_was_lost_by_the_kill(scene: Scene) -> None:
    for name in DEVICES:
        before = device(scene.snapshots["before_kill"], name)["counted"]["energy_uj"]
        assert device(scene.snapshots["after_kill"], name)["counted"]["energy_uj"] >= before


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
    for text in ("J", "g CO2eq", "read from a hardware counter", "g/kWh", "WORLD"):
        assert text in scene.receipt


def test_a_run_that_lived_through_the_kill_is_one_run(scene: Scene) -> None:
    run = scene.rapl.json("/api/v1/runs/long?job_id=j1")
    assert run["ended"] is not None
    assert run["duration_seconds"] > 40
    before = next(run for run in scene.snapshots["before_kill"]["runs"] if run["run_id"] == "long")
    assert run["started"] == pytest.approx(before["started"], abs=0.001)
    assert run["energy_uj"] > before["energy_uj"]


def run_uj(snapshot: dict, run_id: str, kind: str = "cpu") -> int:
    return sum(
        line["counted"]["energy_uj"]
        for line in snapshot["lines"]
        if line["party"].get("run_id") == run_id and line["device"] == kind
    )


def joules_per_cpu_second(scene: Scene, run_id: str) -> float:
    """As if the machine's clocks had run as time does."""
    energy_uj = run_uj(scene.snapshots["last"], run_id)
    return energy_uj / 1e6 / scene.cpu_seconds(run_id) * scene.paces[run_id]


def test_two_runs_of_equal_work_used_equal_energy(scene: Scene) -> None:
    one, two = (run_uj(scene.snapshots["last"], name) for name in ("twin-1", "twin-2"))
    assert one == pytest.approx(two, rel=SAME_WORK)


def test_children_that_come_and_go_are_paid_for_by_their_run(scene: Scene) -> None:
    usual = joules_per_cpu_second(scene, "twin-1")
    assert joules_per_cpu_second(scene, "children") == pytest.approx(usual, rel=SAME_WORK)


def test_a_quiet_run_uses_next_to_nothing_while_it_sleeps(scene: Scene) -> None:
    asleep, last = (scene.snapshots[moment] for moment in ("twins_ended", "last"))
    _, package_uj = measured_uj(scene, "package-0", asleep, last)
    # Its command registers it anew after each restart, which takes some hundredths of a second.
    assert run_uj(last, "quiet") - run_uj(asleep, "quiet") < TOLERANCE * package_uj


def test_a_quiet_run_still_pays_for_its_memory(scene: Scene) -> None:
    assert run_uj(scene.snapshots["last"], "quiet", "dram") > 0


@pytest.mark.parametrize("kind", ["cpu", "dram"])
def test_a_run_that_ended_before_the_kill_stays_as_it_was(scene: Scene, kind: str) -> None:
    totals = {
        run_uj(scene.snapshots[moment], "twin-1", kind)
        for moment in MOMENTS[MOMENTS.index("twins_ended") :]
    }
    assert len(totals) == 1


@pytest.mark.parametrize("kind", ["cpu", "dram"])
def test_a_run_that_ended_after_the_kill_stays_as_it_was(scene: Scene, kind: str) -> None:
    totals = {
        run_uj(scene.snapshots[moment], "short", kind)
        for moment in MOMENTS[MOMENTS.index("before_restart") :]
    }
    assert len(totals) == 1


def test_the_restart_was_orderly(scene: Scene) -> None:
    assert scene.stop_code == 0
    assert scene.rapl.log().count("not orderly") == 1  # of the kill


@pytest.mark.parametrize(("before", "after"), list(pairwise(MOMENTS)))
def test_no_line_of_the_books_ever_falls(scene: Scene, before: str, after: str) -> None:
    then, now = lines(scene.snapshots[before]), lines(scene.snapshots[after])
    assert then
    assert [line for line in then if now.get(line, -1) < then[line]] == []


def lines(snapshot: dict) -> dict[tuple[str, ...], int]:
    return {
        (line["id"], str(line["party"]), line["method"], line["split"]): line["counted"][
            "energy_uj"
        ]
        for line in snapshot["lines"]
    }


def test_the_recording_rules_load_and_none_fails(scene: Scene) -> None:
    rules = scene.prometheus.rules()
    assert len(rules) > 5
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}  # unknown: not yet its minute


def test_the_absence_is_told_apart(scene: Scene) -> None:
    for name in DEVICES:
        reasons = device(scene.snapshots["last"], name)["counted"]["unattributed_uj"]
        assert reasons["restart"] > 0


def test_the_page_is_accepted_by_prometheus(scene: Scene) -> None:
    # A scrape may come too late on a machine that is busy.
    accepted = 'min(up{job="emissions-exporter"}) == 1'
    until(lambda: scene.prometheus.query(accepted), what="both pages are accepted")
