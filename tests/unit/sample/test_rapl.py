"""The collector `rapl` on powercap trees."""

import os
import shutil

import pytest

from exporter.errors import Unavailable
from exporter.model.readings import CounterEvent, Device, DeviceKind
from exporter.sample.energy_counters import SUSPECT_READINGS, EnergyCounters
from exporter.sample.kernel_files import ReusedFile
from exporter.sample.sources.rapl import MAX_RETRIES, MIN_DIFFERENT_READINGS, RaplCollector
from tests.feeder import APART_UJ, POWERCAP, RANGE_UJ, Package, PowercapTree

CPU0, DRAM0 = Device(DeviceKind.CPU, "package-0"), Device(DeviceKind.DRAM, "package-0-dram")
CPU1, DRAM1 = Device(DeviceKind.CPU, "package-1"), Device(DeviceKind.DRAM, "package-1-dram")


@pytest.fixture
def tree(tmp_path):
    packages = [Package(100, 20, core_watts=60), Package(60, 10)]
    with PowercapTree(tmp_path / "sys", packages) as tree:
        yield tree


@pytest.fixture
def rapl(tree, clock):
    sampler = RaplCollector(tree.root, clock, "boot", "Xeon", "Intel")
    yield sampler
    sampler.release()


def write(tree, zone, name, text):
    with open(os.path.join(tree.paths[zone], name), "w", encoding="ascii") as file:
        file.write(text)


def opened(tree, clock):
    sampler = RaplCollector(tree.root, clock, "boot")
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
        sampler = RaplCollector(str(tmp_path), clock, "boot")
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

    @pytest.mark.parametrize("limit_uw", [0, 4_095_875_000, 2**32 * 1_000_000, 2**63])
    def test_implausible_limit_is_ignored(self, tree, clock, limit_uw):
        write(tree, "package-0", "constraint_0_power_limit_uw", f"{limit_uw}\n")
        info = opened(tree, clock).infos[0]
        assert (info.power_cap_watts, info.power_limit_watts) == (1000.0, None)

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
    def test_a_directory_that_may_not_be_listed_is_reported(self, tmp_path, clock, monkeypatch):
        def denied(path):
            raise PermissionError(13, "Permission denied", path)

        monkeypatch.setattr(os, "listdir", denied)
        with pytest.raises(Unavailable, match="powercap may not be listed by this user"):
            RaplCollector(str(tmp_path), clock, "boot")

    def test_machine_without_zones_gets_the_module_as_remedy(self, tmp_path, clock):
        with pytest.raises(Unavailable, match="modprobe intel_rapl_msr"):
            RaplCollector(str(tmp_path), clock, "boot")

    def test_unreadable_counters_name_the_file_the_reason_and_the_remedy(
        self, tree, clock, monkeypatch
    ):
        paths = [energy(tree, zone) for zone in tree.paths]
        deny(monkeypatch, *paths)
        with pytest.raises(Unavailable) as caught:
            RaplCollector(tree.root, clock, "boot")
        text = str(caught.value)
        assert paths[0] in text
        assert "CVE-2020-8694" in text
        assert "run as root" in text
        assert "udev" in text

    def test_remedy_for_a_privileged_process_names_no_capability(self, tree, clock, monkeypatch):
        deny(monkeypatch, *(energy(tree, zone) for zone in tree.paths))
        with pytest.raises(Unavailable, match="rootless container") as caught:
            RaplCollector(tree.root, clock, "boot", is_privileged=True)
        assert "CAP_" not in str(caught.value)
        assert "only root" not in str(caught.value)

    def test_unreadable_package_is_reported_and_others_work(self, tree, clock, monkeypatch):
        deny(monkeypatch, energy(tree, "package-1"))
        sampler = RaplCollector(tree.root, clock, "boot")
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
        second = APART_UJ
        expected = {CPU0: 1000e6, DRAM0: 200e6, CPU1: second + 600e6, DRAM1: second + 100e6}
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
        assert rapl.read().readings[0].why.endswith("does not contain a number")

    @pytest.mark.parametrize("pauses", [1, MAX_RETRIES])
    def test_file_that_is_empty_for_a_moment_is_read_again_until_it_is_written(
        self, tree, clock, pauses
    ):
        slept = []

        def pause(seconds):
            slept.append(seconds)
            if len(slept) == pauses:
                write(tree, "package-0", "energy_uj", "1000000000\n")

        sampler = RaplCollector(tree.root, clock, "boot", pause=pause)
        write(tree, "package-0", "energy_uj", "")
        observation = sampler.read()
        sampler.release()
        assert counters(observation)[CPU0] == 1000e6
        assert not observation.error
        assert len(slept) == pauses

    def test_files_that_stay_empty_are_not_waited_for_again(self, tree, clock):
        slept = []
        sampler = RaplCollector(tree.root, clock, "boot", pause=slept.append)
        for zone in ("package-0", "package-1"):
            write(tree, zone, "energy_uj", "")
        for _ in range(5):
            observation = sampler.read()
        sampler.release()
        assert counters(observation)[CPU0] is None
        assert len(slept) == MAX_RETRIES

    def test_files_stay_open_between_readings(self, rapl, monkeypatch):
        rapl.read()
        monkeypatch.setattr(os, "open", None)
        assert not rapl.read().error

    def test_file_that_another_one_replaces_is_opened_again(self, tree, rapl):
        rapl.read()
        path = os.path.join(tree.paths["package-0"], "energy_uj")
        with open(f"{path}.new", "w", encoding="ascii") as file:
            file.write("7000000\n")
        os.replace(f"{path}.new", path)
        assert counters(rapl.read())[CPU0] == 7_000_000

    def test_release_closes_every_file(self, tree, clock, open_files):
        sampler = RaplCollector(tree.root, clock, "boot")
        sampler.read()
        sampler.release()
        assert open_files() == 0

    def test_reading_has_the_time_awake(self, rapl, clock):
        clock.suspend(3600)
        reading = rapl.read().readings[0]
        assert (reading.at_ns, reading.awake_ns) == (clock.boot, clock.mono)

    def test_night_asleep_books_what_the_counter_shows(self, tree, rapl, clock):
        energy_counters = EnergyCounters(())
        energy_counters.advance(rapl.read())
        for awake_seconds in (1, 0.5):
            clock.advance(awake_seconds)
            tree.advance(awake_seconds)
            intervals = energy_counters.advance(rapl.read())
            clock.suspend(8 * 3600)
        assert [interval.energy_uj for interval in intervals] == [50e6, 10e6, 30e6, 5e6]
        assert {interval.event for interval in intervals} == {None}

    def test_half_an_hour_with_a_wrap_and_an_outage_is_exact(self, tmp_path, clock):
        wraps_soon = Package(300, initial_uj=262_143_328_851 - 50_000_000_000)
        with PowercapTree(tmp_path / "sys", [wraps_soon]) as tree:
            sampler = RaplCollector(tree.root, clock, "boot")
            energy_counters = EnergyCounters(())
            energy_counters.advance(sampler.read())
            path = os.path.join(tree.paths["package-0"], "energy_uj")
            booked = 0
            events = []
            for second in range(1, 1801):
                clock.advance(1)
                tree.advance(1)
                if second in (600, 660):
                    sampler.release()
                    os.rename(*((path, f"{path}.x") if second == 600 else (f"{path}.x", path)))
                for interval in energy_counters.advance(sampler.read()):
                    booked += interval.energy_uj
                    events.append(interval.event)
            sampler.release()
        assert booked == 300 * 1800 * 1_000_000
        assert events.count(CounterEvent.WRAP) == 2
        assert os.path.isdir(os.path.join(tree.root, POWERCAP))


class TestDiesOfOneSocket:
    """Two zones of one socket, 100 and `watts`, and 20 W of dram each, a second apart."""

    @pytest.fixture
    def play(self, tmp_path, clock):
        """Simulate some seconds; return the collector, its observations and energy by device."""

        def run(watts, seconds, name="package-0-die-1"):
            packages = [Package(100, 20, initial_uj=0), Package(watts, 20, initial_uj=0)]
            energy_counters = EnergyCounters(())
            energies = {}
            with PowercapTree(tmp_path / "sys", packages) as tree:
                write(tree, "package-1", "name", name)
                sampler = RaplCollector(tree.root, clock, "boot")
                observations = []
                for _ in range(seconds + 1):
                    observations.append(sampler.read())
                    for interval in energy_counters.advance(observations[-1]):
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
    def test_zones_are_distinguished_by_name_or_number(self, play, name, second):
        sampler, _, _ = play(60, MIN_DIFFERENT_READINGS, name)
        ids = [device.id for device in devices(sampler)]
        assert ids == ["package-0", "package-0-dram", second, f"{second}-dram"]

    def test_two_counters_lose_nothing_during_the_test_for_duplicates(self, play):
        _, _, energies = play(60, 5)
        assert sorted(energies.values()) == [100e6, 100e6, 300e6, 500e6]

    def test_second_counter_counts_from_its_own_first_reading(self, play):
        _, observations, _ = play(60, MIN_DIFFERENT_READINGS)
        assert len(observations[-2].readings) == 2
        times = [reading.at_ns for reading in observations[-1].readings[2:]]
        assert times == [observations[0].at_ns] * 2 + [observations[-1].at_ns] * 2

    def test_one_counter_shown_twice_is_counted_once(self, play, caplog):
        sampler, _, energies = play(100, 15)
        assert energies == {"package-0": 1500e6, "package-0-dram": 300e6}
        assert devices(sampler) == [CPU0, DRAM0]
        assert "repeats the counter of package-0; it is ignored" in caplog.text

    def test_the_first_package_is_read_during_the_test(self, play):
        _, observations, _ = play(100, 5)
        assert [len(observation.readings) for observation in observations] == [2] * 6

    def test_files_of_candidates_are_released_too(self, play, open_files):
        play(100, 1)
        assert open_files() == 0

    def test_counters_with_different_values_are_no_candidates(self, tmp_path, clock):
        with PowercapTree(tmp_path / "sys", [Package(100)] * 2) as tree:
            assert devices(opened(tree, clock)) == [CPU0, CPU1]

    def test_unreadable_second_counter_is_tested_later(self, tmp_path, clock):
        packages = [Package(100, initial_uj=0), Package(60, initial_uj=0)]
        with PowercapTree(tmp_path / "sys", packages) as tree:
            write(tree, "package-1", "name", "package-0-die-1")
            sampler = RaplCollector(tree.root, clock, "boot")
            write(tree, "package-1", "energy_uj", "garbage\n")
            first = sampler.read().readings
            tree.advance(1)
            for _ in range(MIN_DIFFERENT_READINGS):
                later = sampler.read().readings
            sampler.release()
        assert [len(first), len({reading.device for reading in later})] == [1, 2]


class XenGuest:
    """Zones `package-0` ... of a guest of Xen: each shows the one counter of its group's file.

    A hypervisor that passes the registers on shows every virtual socket one physical counter.
    `step_uj` goes by between any two reads.
    """

    def __init__(self, root, groups, names=None, step_uj=0):
        self.root = str(root)
        self.step_uj = step_uj
        self.files = {}
        for number, group in enumerate(groups):
            zone = root / "class/powercap" / f"intel-rapl:{number}"
            zone.mkdir(parents=True)
            (zone / "name").write_text(f"{(names or {}).get(number, f'package-{number}')}\n")
            (zone / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
            (zone / "energy_uj").symlink_to(root / f"counter-{group}")
            self.files.setdefault(group, root / f"counter-{group}")

    def show(self, *counters_uj):
        for file, counter_uj in zip(self.files.values(), counters_uj, strict=True):
            self._put(file, counter_uj)

    def creep(self, monkeypatch):
        """Advance the counters while they are read."""
        read = ReusedFile.read

        def stepping(kept, length):
            for file in self.files.values():
                self._put(file, int(file.read_text()) + self.step_uj)
            return read(kept, length)

        monkeypatch.setattr(ReusedFile, "read", stepping)

    def _put(self, file, counter_uj):
        with open(file, "r+" if file.exists() else "w", encoding="ascii") as opened_file:
            opened_file.write(f"{counter_uj % (RANGE_UJ + 1):<20}\n")


def energies(guest, clock, seconds, watts, initial_uj):
    """Simulate some seconds; return joules by device id and the collector."""
    totals, energy_counters = {}, EnergyCounters(())
    guest.show(*initial_uj)
    sampler = RaplCollector(guest.root, clock, "boot")
    for second in range(seconds + 1):
        guest.show(
            *(
                start + round(second * power * 1e6)
                for start, power in zip(initial_uj, watts, strict=True)
            )
        )
        for interval in energy_counters.advance(sampler.read()):
            joules = interval.energy_uj / 1e6
            totals[interval.device.id] = totals.get(interval.device.id, 0) + joules
        clock.advance(1)
    sampler.release()
    return totals, sampler


class TestPackagesThatShowOneCounter:
    @pytest.mark.parametrize("packages", [2, 4, 16])
    @pytest.mark.parametrize("initial_uj", [0, 5_000_000_000, RANGE_UJ - 200_000_000])
    def test_one_counter_in_all_packages_is_counted_once(
        self, tmp_path, clock, packages, initial_uj
    ):
        guest = XenGuest(tmp_path, [0] * packages)
        totals, sampler = energies(guest, clock, 20, [65], [initial_uj])
        assert totals == {"package-0": 20 * 65}
        assert devices(sampler) == [CPU0]
        observation = sampler.read()
        sampler.release()
        assert observation.note.count("; it is ignored") == packages - 1
        assert not observation.error

    def test_nothing_is_counted_twice_from_the_first_second(self, tmp_path, clock):
        totals, _ = energies(XenGuest(tmp_path, [0] * 4), clock, 3, [65], [5_000_000_000])
        assert totals == {"package-0": 3 * 65}

    def test_counter_that_runs_while_it_is_read_is_still_one(self, tmp_path, clock, monkeypatch):
        guest = XenGuest(tmp_path, [0] * 16, step_uj=977)
        guest.show(5_000_000_000)
        guest.creep(monkeypatch)
        sampler = RaplCollector(guest.root, clock, "boot")
        for _ in range(15):
            clock.advance(1)
            assert {reading.device for reading in sampler.read().readings} == {CPU0}
        sampler.release()

    @pytest.mark.parametrize("packages", [2, 4, 16])
    def test_copies_that_are_written_one_after_the_other_are_counted_once(
        self, tmp_path, clock, packages
    ):
        guest = XenGuest(tmp_path, range(packages))
        energy_counters, booked = EnergyCounters(()), {}
        guest.show(*[5_000_000_000] * packages)
        sampler = RaplCollector(guest.root, clock, "boot")
        for second in range(40):
            # Now and then a reading falls between the copies.
            written = second % packages if second % 4 == 1 else packages
            new, old = (
                5_000_000_000 + second * 65_000_000,
                5_000_000_000 + (second - 1) * 65_000_000,
            )
            guest.show(*[new] * written, *[old] * (packages - written))
            for interval in energy_counters.advance(sampler.read()):
                before = booked.get(interval.device.id, 0)
                booked[interval.device.id] = before + interval.energy_uj
            clock.advance(1)
        sampler.release()
        assert booked == {"package-0": 39 * 65_000_000}

    def test_counters_of_two_sockets_repeated_are_two(self, tmp_path, clock):
        guest = XenGuest(tmp_path, ["a", "b", "a", "b", "b"])
        totals, _ = energies(guest, clock, 20, [65, 80], [5_000_000_000, 7_000_000_000])
        assert totals == {"package-0": 20 * 65, "package-1": 20 * 80}

    def test_dies_and_sockets_of_one_counter_are_one(self, tmp_path, clock):
        names = {0: "package-0-die-0", 1: "package-0-die-1", 2: "package-1-die-0"}
        totals, _ = energies(XenGuest(tmp_path, [0] * 3, names), clock, 20, [65], [0])
        assert totals == {"package-0-die-0": 20 * 65}

    @pytest.mark.parametrize("watts", [(65, 65.001), (65, 30), (0, 65), (65, 0)])
    def test_sockets_that_are_equal_once_are_two_and_lose_nothing(self, tmp_path, clock, watts):
        guest = XenGuest(tmp_path, ["a", "b"])
        totals, _ = energies(guest, clock, 20, watts, [5_000_000_000] * 2)
        expected = {f"package-{n}": 20 * power for n, power in enumerate(watts) if power}
        assert totals == pytest.approx(expected)

    def test_package_that_becomes_readable_later_is_compared_too(
        self, tmp_path, clock, monkeypatch
    ):
        guest = XenGuest(tmp_path, ["a", "a"])
        guest.show(5_000_000_000)
        hidden = os.path.join(guest.root, "class/powercap/intel-rapl:0/energy_uj")
        with monkeypatch.context() as locked:
            deny(locked, hidden)
            sampler = RaplCollector(guest.root, clock, "boot")
            assert devices(sampler) == [CPU1, CPU0]
        for second in range(15):
            guest.show(5_000_000_000 + second * 65_000_000)
            observation = sampler.read()
        sampler.release()
        assert counters(observation) == {CPU1: 5_000_000_000 + 14 * 65_000_000}


def test_values_of_two_sockets_in_turn_book_no_energy_that_is_not_there(tmp_path, clock):
    """A guest of Xen that moves between two sockets.

    Recorded: one file read each second, https://github.com/hubblo-org/scaphandre/issues/134.
    Both counters run at 64 to 66 W.
    """
    recorded = (
        "194127997354 45766381128 45831036419 45895297790 194961270917 46025818025 195088717917 "
        "195154518652 195217628171 195283094556 195347616974 46422262201 46488823065 46554152305 "
        "195605807719 46686185292 195732606528 46819468154 195866360824 195930510501 195995971759 "
        "47080028827 47148009244 47213175459 47280270685 47345139416 47409635711 196448336263 "
        "196513124183 47604736713 196643367563 196707819058"
    )
    guest = XenGuest(tmp_path, ["a"])
    energy_counters = EnergyCounters(())
    booked_uj, values = 0, [int(value) for value in recorded.split()]
    guest.show(values[0])
    sampler = RaplCollector(guest.root, clock, "boot")
    for value in values:
        guest.show(value)
        booked_uj += sum(interval.energy_uj for interval in energy_counters.advance(sampler.read()))
        clock.advance(1)
    sampler.release()
    seconds = len(values) - 1
    assert 0.3 * 64e6 * seconds < booked_uj < 66.7e6 * seconds


class TestLimitsThatChange:
    """Package-0 has a limit of 30 W and later draws more than twice that."""

    @pytest.fixture
    def play(self, tmp_path, clock):
        def run(watts, seconds, *, raised_to_watts=None, files=("constraint_0_power_limit_uw",)):
            energy_counters, booked, states = EnergyCounters(()), 0, []
            with PowercapTree(tmp_path / "sys", [Package(watts, limit_watts=30)]) as tree:
                sampler = RaplCollector(tree.root, clock, "boot")
                for second in range(seconds + 1):
                    if second == 2 and raised_to_watts is not None:
                        for name in files:
                            write(tree, "package-0", name, f"{raised_to_watts * 1_000_000}\n")
                    booked += sum(
                        item.energy_uj for item in energy_counters.advance(sampler.read())
                    )
                    states += energy_counters.states(clock.boot, {})
                    clock.advance(1)
                    tree.advance(1)
                sampler.release()
            return booked / 1e6, sampler.infos[0], states

        return run

    def test_power_under_a_raised_limit_is_booked_in_full(self, play):
        booked, info, _ = play(200, 20, raised_to_watts=150)
        assert booked == 20 * 200
        assert info.power_limit_watts == 150

    def test_persistent_power_above_the_limits_is_booked_in_full(self, play):
        booked, _, states = play(200, 20)
        assert booked == 20 * 200
        assert states[-1].up

    def test_implausible_power_is_not_booked_and_is_reported(self, play, caplog):
        booked, _, states = play(5000, 20)
        assert booked == 0
        assert not states[-1].up
        assert "faster than 60 W" in states[-1].why
        assert [record.message for record in caplog.records] == ["device not counted"]
        assert states[SUSPECT_READINGS - 1].up

    def test_largest_power_of_the_package_counts_as_a_limit(self, tmp_path, clock):
        with PowercapTree(tmp_path / "sys", [Package(10, limit_watts=30)]) as tree:
            write(tree, "package-0", "constraint_0_max_power_uw", "270000000\n")
            assert opened(tree, clock).infos[0].power_cap_watts == 540.0

    def test_limit_on_the_page_follows_the_files(self, play):
        _, info, _ = play(10, 40, raised_to_watts=90)
        assert (info.power_limit_watts, info.power_cap_watts) == (90.0, 180.0)

    def test_lowered_limit_does_not_lower_the_bound(self, play):
        booked, info, _ = play(50, 70, raised_to_watts=10)
        assert booked == 70 * 50
        assert (info.power_limit_watts, info.power_cap_watts) == (10.0, 60.0)


class TestRangeThatIsWrong:
    @pytest.mark.parametrize("initial_uj", [300_000_000_000, RANGE_UJ - 100_000_000])
    def test_counter_above_its_range_is_counted(self, tmp_path, clock, initial_uj):
        package = Package(100, range_uj=1_000_000_000_000, initial_uj=initial_uj)
        energy_counters, booked = EnergyCounters(()), 0
        with PowercapTree(tmp_path / "sys", [package]) as tree:
            write(tree, "package-0", "max_energy_range_uj", f"{RANGE_UJ}\n")
            sampler = RaplCollector(tree.root, clock, "boot")
            for _ in range(31):
                booked += sum(item.energy_uj for item in energy_counters.advance(sampler.read()))
                clock.advance(1)
                tree.advance(1)
            sampler.release()
        assert booked == 30 * 100_000_000
        (state,) = energy_counters.states(clock.boot, {})
        assert state.up
        assert not any(state.events.values())


class TestZonesWithoutAPackage:
    @pytest.mark.parametrize("shown", [("psys",), ("psys", "core", "uncore"), ("dram",)])
    def test_they_are_named_and_no_module_is_recommended(self, tmp_path, clock, shown):
        for number, name in enumerate(shown):
            zone = tmp_path / "class/powercap" / f"intel-rapl:{number}"
            zone.mkdir(parents=True)
            (zone / "name").write_text(f"{name}\n")
            (zone / "energy_uj").write_text("5000\n")
        with pytest.raises(Unavailable) as caught:
            RaplCollector(str(tmp_path), clock, "boot")
        assert ", ".join(sorted(shown)) in str(caught.value)
        assert "modprobe" not in str(caught.value)
