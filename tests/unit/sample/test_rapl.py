"""Reading powercap trees."""

import os
import shutil

import pytest

from exporter.errors import Unavailable
from exporter.model.readings import Device, Event, Kind
from exporter.sample.meters import Meters
from exporter.sample.sources.rapl import Rapl
from tests.feeder import POWERCAP, Package, PowercapTree

CPU0, DRAM0 = Device(Kind.CPU, "package-0"), Device(Kind.DRAM, "package-0-dram")
CPU1, DRAM1 = Device(Kind.CPU, "package-1"), Device(Kind.DRAM, "package-1-dram")


@pytest.fixture
def tree(tmp_path):
    packages = [Package(100, 20, core_watts=60), Package(60, 10)]
    with PowercapTree(tmp_path / "sys", packages) as tree:
        yield tree


@pytest.fixture
def rapl(tree, clock):
    sampler = Rapl(tree.root, clock, "boot", "Xeon", "Intel")
    yield sampler
    sampler.release()


def write(tree, zone, name, text):
    with open(os.path.join(tree.paths[zone], name), "w", encoding="ascii") as file:
        file.write(text)


def opened(tree, clock):
    sampler = Rapl(tree.root, clock, "boot")
    sampler.release()
    return sampler


def devices(sampler):
    return [info.device for info in sampler.infos]


def counters(observation):
    return {reading.device: reading.counter_uj for reading in observation.readings}


def deny(monkeypatch, *paths):
    """Make opening some files fail as for a user who is not root."""
    real = os.open

    def guarded(path, *rest):
        if path in paths:
            raise PermissionError(13, "Permission denied", path)
        return real(path, *rest)

    monkeypatch.setattr(os, "open", guarded)


def energy(tree, zone):
    by_class = os.path.join(tree.root, "class/powercap", os.path.basename(tree.paths[zone]))
    return os.path.join(by_class, "energy_uj")


class TestDiscovery:
    def test_packages_and_dram_are_devices_and_core_is_not(self, rapl):
        assert devices(rapl) == [CPU0, DRAM0, CPU1, DRAM1]

    def test_tree_without_the_class_is_found_among_the_devices(self, tree, clock):
        shutil.rmtree(os.path.join(tree.root, "class"))
        assert devices(opened(tree, clock)) == [CPU0, DRAM0, CPU1, DRAM1]

    def test_flat_class_without_nested_zones_is_enough(self, tmp_path, clock):
        for name, shown in (("intel-rapl:0", "package-0"), ("intel-rapl:0:2", "dram")):
            os.makedirs(tmp_path / "class/powercap" / name)
            for file_name, text in (("name", shown), ("energy_uj", "5")):
                (tmp_path / "class/powercap" / name / file_name).write_text(text)
        sampler = Rapl(str(tmp_path), clock, "boot")
        sampler.release()
        assert devices(sampler) == [CPU0, DRAM0]

    @pytest.mark.parametrize("name", ["psys", "uncore"])
    def test_whole_machine_and_other_zones_are_left_out(self, tree, clock, name):
        write(tree, "package-1", "name", name)
        assert devices(opened(tree, clock)) == [CPU0, DRAM0]

    def test_second_driver_for_the_same_counters_is_left_out(self, tree, clock):
        source = tree.paths["package-0"]
        shutil.copytree(source, os.path.join(tree.root, "class/powercap/intel-rapl-mmio:0"))
        assert devices(opened(tree, clock)) == [CPU0, DRAM0, CPU1, DRAM1]

    def test_zones_are_ordered_by_number_and_not_by_text(self, tmp_path, clock):
        with PowercapTree(tmp_path / "sys", [Package(1)] * 11) as tree:
            ids = [device.id for device in devices(opened(tree, clock))]
        assert ids == [f"package-{number}" for number in range(11)]

    def test_wrap_is_one_more_than_the_largest_value(self, rapl):
        assert {info.wrap_uj for info in rapl.infos} == {262_143_328_851}

    def test_cap_is_twice_the_largest_limit(self, tree, clock):
        write(tree, "package-0", "constraint_1_power_limit_uw", "420000000\n")
        info = opened(tree, clock).infos[0]
        assert (info.power_cap_watts, info.power_limit_watts) == (840.0, 350.0)

    def test_cap_without_limits_is_a_kilowatt(self, tree, clock):
        os.remove(os.path.join(tree.paths["package-0"], "constraint_0_power_limit_uw"))
        info = opened(tree, clock).infos[0]
        assert (info.power_cap_watts, info.power_limit_watts) == (1000.0, None)

    def test_processor_is_named_and_memory_is_not(self, rapl):
        assert [(info.model, info.vendor) for info in rapl.infos[:2]] == [
            ("Xeon", "Intel"),
            ("", ""),
        ]


class TestUnavailable:
    def test_a_directory_that_may_not_be_listed_is_said(self, tmp_path, clock, monkeypatch):
        def denied(path):
            raise PermissionError(13, "Permission denied", path)

        monkeypatch.setattr(os, "listdir", denied)
        with pytest.raises(Unavailable, match="powercap may not be listed by this user"):
            Rapl(str(tmp_path), clock, "boot")

    def test_machine_without_zones_is_told_of_the_module(self, tmp_path, clock):
        with pytest.raises(Unavailable, match="modprobe intel_rapl_msr"):
            Rapl(str(tmp_path), clock, "boot")

    def test_unreadable_counters_name_the_file_the_reason_and_the_remedy(
        self, tree, clock, monkeypatch
    ):
        paths = [energy(tree, zone) for zone in tree.paths]
        deny(monkeypatch, *paths)
        with pytest.raises(Unavailable) as caught:
            Rapl(tree.root, clock, "boot")
        text = str(caught.value)
        assert paths[0] in text
        assert "CVE-2020-8694" in text
        assert "run as root" in text
        assert "udev" in text

    def test_readable_package_works_beside_one_that_is_not_and_that_is_said(
        self, tree, clock, monkeypatch
    ):
        deny(monkeypatch, energy(tree, "package-1"))
        sampler = Rapl(tree.root, clock, "boot")
        assert devices(sampler) == [CPU0, DRAM0, CPU1, DRAM1]
        assert len(sampler.notes) == 1
        observation = sampler.read()
        assert counters(observation)[CPU1] is None
        assert counters(observation)[CPU0] == 0
        assert energy(tree, "package-1") in observation.error
        sampler.release()

    def test_kind_of_which_nothing_can_be_read_is_left_to_the_estimates(
        self, tree, clock, monkeypatch
    ):
        deny(monkeypatch, energy(tree, "package-0-dram"), energy(tree, "package-1-dram"))
        assert devices(opened(tree, clock)) == [CPU0, CPU1]


class TestReading:
    def test_counters_are_read_as_they_are(self, tree, rapl):
        tree.advance(10)
        expected = {CPU0: 1000e6, DRAM0: 200e6, CPU1: 600e6, DRAM1: 100e6}
        assert counters(rapl.read()) == expected

    def test_readings_carry_time_and_epoch(self, rapl, clock):
        reading = rapl.read().readings[0]
        assert (reading.at_ns, reading.epoch) == (clock.boot, "boot")

    def test_file_that_vanished_is_a_reading_with_a_reason(self, tree, rapl):
        path = os.path.join(tree.paths["package-0"], "energy_uj")
        os.rename(path, f"{path}.away")
        rapl.release()
        observation = rapl.read()
        assert counters(observation)[CPU0] is None
        assert observation.readings[0].why.endswith("energy_uj: No such file or directory")
        os.rename(f"{path}.away", path)
        assert counters(rapl.read())[CPU0] == 0

    def test_directory_in_place_of_the_file_is_a_reading_with_a_reason(self, tree, rapl):
        rapl.release()
        path = os.path.join(tree.paths["package-0"], "energy_uj")
        os.remove(path)
        os.mkdir(path)
        assert "Is a directory" in rapl.read().readings[0].why

    @pytest.mark.parametrize("text", ["", "garbage\n"])
    def test_content_that_is_no_number_is_a_reading_with_a_reason(self, tree, rapl, text):
        write(tree, "package-0", "energy_uj", text)
        assert rapl.read().readings[0].why.endswith("does not hold a number")

    def test_files_stay_open_between_readings(self, rapl, monkeypatch):
        rapl.read()
        monkeypatch.setattr(os, "open", None)
        assert not rapl.read().error

    def test_release_closes_every_file(self, tree, clock, open_files):
        sampler = Rapl(tree.root, clock, "boot")
        sampler.read()
        sampler.release()
        assert open_files() == 0

    def test_reading_says_how_long_the_machine_was_awake(self, rapl, clock):
        clock.suspend(3600)
        reading = rapl.read().readings[0]
        assert (reading.at_ns, reading.awake_ns) == (clock.boot, clock.mono)

    def test_night_asleep_books_what_the_counter_shows(self, tree, rapl, clock):
        meters = Meters(())
        meters.advance(rapl.read())
        for awake_seconds in (1, 0.5):
            clock.advance(awake_seconds)
            tree.advance(awake_seconds)
            intervals = meters.advance(rapl.read())
            clock.suspend(8 * 3600)
        assert [interval.energy_uj for interval in intervals] == [50e6, 10e6, 30e6, 5e6]
        assert {interval.event for interval in intervals} == {None}

    def test_half_an_hour_with_a_wrap_and_an_outage_is_exact(self, tmp_path, clock):
        wraps_soon = Package(300, initial_uj=262_143_328_851 - 50_000_000_000)
        with PowercapTree(tmp_path / "sys", [wraps_soon]) as tree:
            sampler = Rapl(tree.root, clock, "boot")
            meters = Meters(())
            meters.advance(sampler.read())
            path = os.path.join(tree.paths["package-0"], "energy_uj")
            booked = 0
            events = []
            for second in range(1, 1801):
                clock.advance(1)
                tree.advance(1)
                if second in (600, 660):
                    sampler.release()
                    os.rename(*((path, f"{path}.x") if second == 600 else (f"{path}.x", path)))
                for interval in meters.advance(sampler.read()):
                    booked += interval.energy_uj
                    events.append(interval.event)
            sampler.release()
        assert booked == 300 * 1800 * 1_000_000
        assert events.count(Event.WRAP) == 2
        assert os.path.isdir(os.path.join(tree.root, POWERCAP))


class TestDiesOfOneSocket:
    """Two zones of one socket, 100 and `watts`, and 20 W of dram each, a second apart."""

    @pytest.fixture
    def play(self, tmp_path, clock):
        """Plays seconds, and returns the sampler, its observations, and energy by device."""

        def run(watts, seconds, name="package-0-die-1"):
            packages = [Package(100, 20), Package(watts, 20)]
            meters = Meters(())
            energies = {}
            with PowercapTree(tmp_path / "sys", packages) as tree:
                write(tree, "package-1", "name", name)
                sampler = Rapl(tree.root, clock, "boot")
                observations = []
                for _ in range(seconds + 1):
                    observations.append(sampler.read())
                    for interval in meters.advance(observations[-1]):
                        before = energies.get(interval.device.id, 0)
                        energies[interval.device.id] = before + interval.energy_uj
                    clock.advance(1)
                    tree.advance(1)
            sampler.release()
            return sampler, observations, energies

        return run

    @pytest.mark.parametrize(
        ("name", "second"),
        [("package-0-die-1", "package-0-die-1"), ("package-0", "package-0-zone-1")],
    )
    def test_zones_are_told_apart_by_name_or_number(self, play, name, second):
        sampler, _, _ = play(60, 1, name)
        ids = [device.id for device in devices(sampler)]
        assert ids == ["package-0", "package-0-dram", second, f"{second}-dram"]

    def test_two_counters_lose_nothing_while_they_are_told_apart(self, play):
        _, _, energies = play(60, 5)
        assert sorted(energies.values()) == [100e6, 100e6, 300e6, 500e6]

    def test_second_counter_counts_from_its_own_first_reading(self, play):
        _, observations, _ = play(60, 1)
        assert len(observations[0].readings) == 2
        times = [reading.at_ns for reading in observations[1].readings[2:]]
        assert times == [observations[0].at_ns] * 2 + [observations[1].at_ns] * 2

    def test_one_counter_shown_twice_is_counted_once(self, play, caplog):
        sampler, _, energies = play(100, 15)
        assert energies == {"package-0": 1500e6, "package-0-dram": 300e6}
        assert devices(sampler) == [CPU0, DRAM0]
        assert "shows the counter of package-0 again; it is left out" in caplog.text

    def test_until_then_the_first_is_read_as_ever(self, play):
        _, observations, _ = play(100, 5)
        assert [len(observation.readings) for observation in observations] == [2] * 6

    def test_files_on_trial_are_released_too(self, play, open_files):
        play(100, 1)
        assert open_files() == 0

    def test_other_sockets_are_never_on_trial(self, tmp_path, clock):
        with PowercapTree(tmp_path / "sys", [Package(100)] * 2) as tree:
            assert devices(opened(tree, clock)) == [CPU0, CPU1]

    def test_second_counter_that_cannot_be_read_now_is_judged_later(self, tmp_path, clock):
        with PowercapTree(tmp_path / "sys", [Package(100), Package(60)]) as tree:
            write(tree, "package-1", "name", "package-0-die-1")
            sampler = Rapl(tree.root, clock, "boot")
            write(tree, "package-1", "energy_uj", "garbage\n")
            first = sampler.read().readings
            tree.advance(1)
            later = sampler.read().readings
            sampler.release()
        assert [len(first), len(later)] == [1, 2]
