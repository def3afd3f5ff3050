"""The sums of a snapshot."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.expose.snapshot_view import SnapshotView
from exporter.model.readings import PART_KINDS, Device, Method
from exporter.model.runs import DEPARTED_RUNS, RunKey
from exporter.model.workload import UnattributedReason

PARTIES = st.one_of(
    st.sampled_from(UnattributedReason),
    st.sampled_from(
        [DEPARTED_RUNS, RunKey(1, "a", ""), RunKey(1, "gone", ""), RunKey(2, "other", "7")]
    ),
)
DEVICES = st.builds(Device, st.sampled_from(PART_KINDS), st.sampled_from(["0", "1"]))


@st.composite
def lines(draw):
    total = draw(st.integers(0, 2**70))
    return (
        draw(DEVICES),
        draw(PARTIES),
        draw(st.sampled_from(Method)),
        total,
        draw(st.integers(0, total)),
    )


@settings(deadline=None)
@given(st.lists(lines(), max_size=40))
def test_device_energy_is_attributed_plus_unattributed_energy(made, lines):
    rows = tuple(
        made.row(device, target, total, base_uj=base, method=method)
        for device, target, method, total, base in lines
    )
    view = SnapshotView(made.snapshot(rows=rows, runs=(made.run(RunKey(1, "a", "")),)))
    for device, tally in view.devices.items():
        rest = [t for labels, t in view.unattributed.items() if labels[:2] == device]
        methods = [t for labels, t in view.by_method.items() if labels[:2] == device]
        for field in ("counted_uj", "counted_ng", "total_uj", "total_ng", "held_uj"):
            whole = getattr(tally, field)
            parts = [view.attributed[device], *rest]
            assert whole == sum(getattr(part, field) for part in parts)
            assert whole == sum(getattr(method, field) for method in methods)
        assert tally.total_uj == sum(
            row.balance.total.energy_uj for row in rows if row.device == device
        )


def test_counters_show_the_total_less_its_base(made):
    view = SnapshotView(
        made.snapshot(rows=(made.row(made.CPU, UnattributedReason.IDLE, 100, base_uj=30),))
    )
    tally = view.devices[made.CPU]
    assert (tally.counted_uj, tally.total_uj) == (70, 100)


def test_departed_runs_count_as_attributed_but_have_no_series(made):
    view = SnapshotView(made.snapshot(rows=(made.row(made.CPU, DEPARTED_RUNS, 100),)))
    assert view.attributed[made.CPU].counted_uj == 100
    assert not view.runs


def test_the_run_other_is_exported_like_any_run(made):
    key = RunKey(-1, "other", "")
    view = SnapshotView(made.snapshot(rows=(made.row(made.CPU, key, 5),), runs=(made.run(key),)))
    assert view.runs[key].by_device["other", "", "cpu", ""].counted_uj == 5


def test_sockets_of_a_run_are_one_series_and_gpus_one_each(made):
    rows = [made.row(Device(kind, name), made.BERT, 1) for kind in PART_KINDS for name in "01"]
    view = SnapshotView(made.snapshot(rows=tuple(rows), runs=(made.run(made.BERT),)))
    assert {labels[2:]: t.counted_uj for labels, t in view.runs[made.BERT].by_device.items()} == {
        ("cpu", ""): 2,
        ("dram", ""): 2,
        ("gpu", "0"): 1,
        ("gpu", "1"): 1,
    }


def test_an_ended_run_keeps_its_energy_and_has_no_power(made):
    rows = (made.row(made.CPU, made.OLD, 9, power_watts=3.0),)
    runs = (made.run(made.OLD, ended=made.WALL),)
    view = SnapshotView(made.snapshot(rows=rows, runs=runs))
    tally = view.runs[made.OLD].by_device["old", "", "cpu", ""]
    assert (tally.counted_uj, tally.power_watts) == (9, None)


def test_power_that_is_unknown_everywhere_stays_unknown(made):
    rows = (made.row(made.CPU, UnattributedReason.IDLE, 1),)
    idle = SnapshotView(made.snapshot(rows=rows)).unattributed[*made.CPU, "idle"]
    assert idle.power_watts is None


def test_power_adds_up_over_what_is_known(made):
    rows = tuple(
        made.row(made.CPU, UnattributedReason.IDLE, 1, power_watts=w) for w in (None, 2.0, 0.5)
    )
    idle = SnapshotView(made.snapshot(rows=rows)).unattributed[*made.CPU, "idle"]
    assert idle.power_watts == 2.5


def test_possible_methods_and_reasons_are_exported_at_zero(made):
    view = SnapshotView(made.snapshot(devices=(made.state(made.GPU0),)))
    assert {labels[2] for labels in view.by_method} == {"counter", "integrated"}
    assert {labels[2] for labels in view.unattributed} == {
        "idle",
        "unallocated",
        "unknown_process",
        "restart",
    }
    assert view.devices[made.GPU0].counted_uj == 0


def test_a_run_without_energy_yet_begins_at_zero(made):
    devices = (made.state(made.CPU), made.state(made.DRAM), made.state(made.GPU0))
    view = SnapshotView(made.snapshot(devices=devices, runs=(made.run(made.BERT),)))
    tallies = view.runs[made.BERT].by_device
    assert {labels: tally.counted_uj for labels, tally in tallies.items()} == {
        ("bert", "42", "cpu", ""): 0,
        ("bert", "42", "dram", ""): 0,
    }


def test_a_removed_device_keeps_its_sums(made):
    view = SnapshotView(made.snapshot(rows=(made.row(made.GPU1, UnattributedReason.IDLE, 7),)))
    assert view.devices[made.GPU1].counted_uj == 7


def test_a_run_without_changes_is_the_same_object_in_the_next_view(made):
    first = SnapshotView(made.gpu_node())
    again = first.snapshot._replace(tick=2)
    assert SnapshotView(again, before=first).runs == first.runs


@pytest.mark.parametrize(
    "change",
    [
        lambda made, node: {"runs": (made.run(made.BERT, name="renamed"), *node.runs[1:])},
        lambda made, node: {"rows": node.rows[1:]},
        lambda made, node: {"rows": (node.rows[0]._replace(power_watts=11.0), *node.rows[1:])},
        lambda made, node: {"devices": (node.devices[0], *node.devices[2:])},
    ],
    ids=["description", "fewer rows", "power", "device kinds"],
)
def test_a_run_with_a_change_is_another_object_in_the_next_view(made, change):
    first = SnapshotView(made.gpu_node())
    later = SnapshotView(first.snapshot._replace(**change(made, first.snapshot)), before=first)
    assert later.runs[made.BERT] is not first.runs[made.BERT]
