"""The simulated RAPL host that other tests use as a reference."""

import os

import pytest

from tests.feeder import APART_UJ, RANGE_UJ, STEP, Package, PowercapTree, Steps, Truth, Zone


def shown(tree, zone):
    with open(os.path.join(tree.paths[zone], "energy_uj"), encoding="ascii") as file:
        return int(file.read())


@pytest.fixture
def tree(tmp_path):
    with PowercapTree(tmp_path / "sys", [Package(100, 20, 60), Package(60)]) as tree:
        yield tree


def test_energy_is_power_times_time_however_time_is_cut(tree):
    for _ in range(1000):
        tree.advance(0.001)
    assert [shown(tree, zone) for zone in tree.zones] == [100e6, 60e6, 20e6, 60e6 + APART_UJ]


def test_counter_starts_again_after_its_range(tmp_path):
    package = Package(100, initial_uj=RANGE_UJ - 10_000_000)
    with PowercapTree(tmp_path / "sys", [package]) as tree:
        tree.advance(1)
        assert shown(tree, "package-0") == 90_000_000 - 1


def test_length_of_the_file_never_changes(tree):
    path = os.path.join(tree.paths["package-0"], "energy_uj")
    sizes = {os.path.getsize(path)}
    for seconds in (0.000001, 1, 100, 2000):
        tree.advance(seconds)
        sizes.add(os.path.getsize(path))
    assert len(sizes) == 1


def test_class_and_device_paths_show_one_counter(tree):
    tree.advance(1)
    path = os.path.join(tree.root, "class/powercap/intel-rapl:0/energy_uj")
    with open(path, encoding="ascii") as file:
        assert int(file.read()) == 100_000_000


def test_recorded_truth_outlives_its_file(tmp_path):
    truth = Truth(5_000_000_000, {"package-0": Zone(100.0, 7, RANGE_UJ + 1)})
    path = str(tmp_path / "truth.json")
    truth.write(path)
    assert Truth.read(path) == truth
    assert truth.used_uj("package-0", 7_500_000_000) == 250_000_000


def test_a_counter_is_unchanged_until_it_is_written_again(tmp_path):
    path = tmp_path / "steps"
    half = STEP.pack(2_000_000_000, 1_500_000_000)[:8]
    path.write_bytes(STEP.pack(1_000_000_000, 500_000_000) + half)
    truth, steps = Truth(500_000_000, {"package-0": Zone(100.0, 7, RANGE_UJ + 1)}), Steps(str(path))
    shown_uj = [truth.shown_uj("package-0", at_ns, steps) for at_ns in (0, 10**9, 3 * 10**9)]
    assert shown_uj == [0, 50_000_000, 50_000_000]
