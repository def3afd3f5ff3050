"""Discovery, identity, and reading of Intel's cards."""

import os

import pytest

from exporter.errors import Unavailable
from exporter.sample.sources.gpu.driver import ErrorClass, GpuError
from exporter.sample.sources.intel_gpu import IntelDriver, has_gpus
from tests.intel_cards import I915_FDINFO, XE_FDINFO

CAP_WATTS = 600.0
B580 = {"energy1_label": "card", "energy1_input": 5_000_000, "power1_cap": 190_000_000}


class Reads:
    """The driver and reader of one card, listed again before each read."""

    def __init__(self, tree, clock):
        self.driver = IntelDriver(str(tree.sysfs), str(tree.procfs), clock)
        (listed,) = self.driver.list_gpus().gpus
        self.reader = self.driver.reader(listed.info)

    def energy(self):
        (listed,) = self.driver.list_gpus().gpus
        return self.reader.read_energy(listed.handle, CAP_WATTS)

    def users(self):
        (listed,) = self.driver.list_gpus().gpus
        return self.reader.read_users(listed.handle)


@pytest.fixture
def card(tree):
    card = tree.card()
    card.hwmon(6, "xe", **B580)
    return card


@pytest.fixture
def driver(tree, clock, card):
    return IntelDriver(str(tree.sysfs), str(tree.procfs), clock)


@pytest.fixture
def reads(tree, clock, card):
    return Reads(tree, clock)


class TestListing:
    def test_card_is_identified_by_its_address_and_named_by_all_its_names(self, driver, card):
        (listed,) = driver.list_gpus().gpus
        info = listed.info
        assert (info.device.id, info.pci_bus_id) == ("0000:03:00.0", "0000:03:00.0")
        assert (info.model, info.vendor, info.ordinal) == ("Intel Arc B580", "Intel", "0")
        assert info.aliases == (
            *("0000:03:00.0", "0000-03-00-0-0xe20b"),  # kernel; driver for claims
            *("card1", "renderD128"),
        )

    def test_limit_and_range_of_the_register_are_those_of_the_counter(self, driver, card):
        (listed,) = driver.list_gpus().gpus
        assert (listed.info.power_limit_watts, listed.info.power_cap_watts) == (190.0, 380.0)
        assert (listed.info.wrap_uj, listed.info.unread_wrap_uj) == (None, 262_144_000_000)

    def test_plausible_power_is_twice_the_highest_limit(self, driver, card):
        card.write("hwmon/hwmon6/power1_max", 120_000_000)
        (listed,) = driver.list_gpus().gpus
        assert (listed.info.power_limit_watts, listed.info.power_cap_watts) == (120.0, 380.0)

    def test_integrated_graphics_are_part_of_the_processor(self, tree, clock):
        tree.card("0000:00:02.0", driver="i915", device="0xa780")
        assert not has_gpus(str(tree.sysfs))
        with pytest.raises(Unavailable, match="no discrete Intel GPU"):
            IntelDriver(str(tree.sysfs), str(tree.procfs), clock)

    def test_card_beside_integrated_graphics_is_found(self, tree, driver, card):
        tree.card("0000:00:02.0", driver="i915", device="0xa780", minor=0)
        (listed,) = driver.list_gpus().gpus
        assert (listed.info.pci_bus_id, listed.info.ordinal) == ("0000:03:00.0", "0")
        assert has_gpus(str(tree.sysfs))

    def test_card_without_counter_is_a_note(self, tree, clock):
        """A B580 before its kernel reported energy."""
        tree.card().hwmon(6, "xe", temp2_input=40_000)
        listing = IntelDriver(str(tree.sysfs), str(tree.procfs), clock).list_gpus()
        assert not listing.gpus
        (note,) = listing.notes
        assert note.startswith("GPU 0000:03:00.0 (Intel Arc B580) is not measured")
        assert has_gpus(str(tree.sysfs))

    def test_virtual_functions_are_part_of_their_card(self, tree, driver, card):
        function = tree.card("0000:03:00.1", minor=2)
        os.symlink("../0000:03:00.0", function.path / "physfn")
        assert len(driver.list_gpus().gpus) == 1

    @pytest.mark.parametrize("other", ["vfio-pci", "amdgpu"])
    def test_card_with_another_driver_is_not_read(self, driver, card, other):
        card.bind(other)
        assert not driver.list_gpus().gpus

    def test_cards_of_other_vendors_and_classes_are_ignored(self, tree, driver, card):
        card.write("vendor", "0x10de")
        tree.card("0000:04:00.0", pci_class="0x020000", minor=3).hwmon(3, "xe", **B580)
        assert not driver.list_gpus().gpus
        assert not has_gpus(str(tree.sysfs))

    def test_no_pci_bus_is_no_card(self, tmp_path):
        assert not has_gpus(str(tmp_path))


class TestSleep:
    def test_limits_of_a_sleeping_card_are_read_once_it_is_awake(self, driver, card, clock):
        card.write("power/runtime_status", "suspended")
        assert driver.list_gpus().gpus[0].info.power_limit_watts is None
        card.write("power/runtime_status", "active")
        assert driver.list_gpus().gpus[0].info.power_limit_watts == 190.0
        card.write("power/runtime_status", "suspended")
        card.remove("hwmon/hwmon6/power1_cap")
        clock.advance(1000)
        assert driver.list_gpus().gpus[0].info.power_limit_watts == 190.0

    def test_limits_are_read_again_every_minute_unless_that_keeps_an_idle_card_awake(
        self, driver, card, clock
    ):
        driver.list_gpus()
        card.write("hwmon/hwmon6/power1_cap", 150_000_000)
        clock.advance(59)
        assert driver.list_gpus().gpus[0].info.power_limit_watts == 190.0
        card.write("power/runtime_usage", "0")
        clock.advance(2)
        assert driver.list_gpus().gpus[0].info.power_limit_watts == 190.0
        card.write("power/runtime_usage", "1")
        assert driver.list_gpus().gpus[0].info.power_limit_watts == 150.0

    def test_sleeping_card_loses_no_wraps_until_its_second_reading_after(self, card, reads, clock):
        """So its idle power before a long sleep does not add any to the energy of the sleep."""

        def range_uj():
            return reads.driver.list_gpus().gpus[0].info.unread_wrap_uj

        assert range_uj() == 262_144_000_000
        card.write("power/runtime_status", "suspended")
        assert range_uj() is None
        card.write("power/runtime_status", "active")
        ranges = []
        for _ in range(3):
            ranges.append(range_uj())
            clock.advance(1)
            reads.energy()
        assert ranges == [None, None, 262_144_000_000]

    def test_idle_card_is_read_rarely_so_that_it_can_sleep(self, reads, card, clock):
        card.write("power/runtime_usage", "0")
        first = reads.energy()
        for second in range(1, 9):
            clock.advance(1)
            card.write("hwmon/hwmon6/energy1_input", 5_000_000 + second)
            if second < 8:
                assert reads.energy() == first
        assert reads.energy().counter_uj == 5_000_008

    @pytest.mark.parametrize(
        ("name", "text"),
        [("runtime_usage", "2"), ("control", "on"), ("runtime_usage", None)],
        ids=["in use", "never sleeps", "number of users not known"],
    )
    def test_card_that_does_not_go_to_sleep_is_always_read(self, reads, card, clock, name, text):
        card.write("power/runtime_usage", "0")
        card.remove(f"power/{name}") if text is None else card.write(f"power/{name}", text)
        reads.energy()
        clock.advance(1)
        card.write("hwmon/hwmon6/energy1_input", 5_000_001)
        assert reads.energy().counter_uj == 5_000_001

    def test_each_loss_of_power_restarts_the_register(self, reads, card):
        epochs = [reads.energy().epoch]
        for state in ("D0", "D3hot", "D3cold", "D3cold", "D0", "D3cold", "D0"):
            card.write("power_state", state)
            epochs.append(reads.energy().epoch)
        assert epochs[0] == epochs[1] == epochs[2] != epochs[3]
        assert epochs[3] == epochs[4] == epochs[5] != epochs[6]
        assert epochs[6] == epochs[7] != epochs[0]


class TestEnergy:
    def test_counter_is_read_with_its_time(self, reads, clock):
        values = reads.energy()
        assert (values.counter_uj, values.at_ns) == (5_000_000, clock.boottime_ns())
        assert values.power_watts is None
        assert values.epoch

    def test_reload_of_the_driver_restarts_the_counter(self, reads, card):
        before = reads.energy()
        card.path.joinpath("hwmon").rename(card.path / "gone")
        card.hwmon(4, "xe", **B580)
        after = reads.energy()
        assert after.counter_uj == before.counter_uj
        assert after.epoch != before.epoch

    @pytest.mark.parametrize(
        ("text", "error_class"),
        [("0", ErrorClass.TRANSIENT), ("garbage", ErrorClass.TRANSIENT)],
    )
    def test_value_that_is_no_energy_is_an_error(self, reads, card, text, error_class):
        """xe_hwmon_energy_get returns 0 if it cannot read the telemetry of Battlemage."""
        reads.energy()
        card.write("hwmon/hwmon6/energy1_input", text)
        with pytest.raises(GpuError, match="energy1_input") as raised:
            reads.energy()
        assert raised.value.error_class is error_class
        card.write("hwmon/hwmon6/energy1_input", 7_000_000)
        assert reads.energy().counter_uj == 7_000_000

    def test_removed_card_is_lost_and_found_again(self, reads, card, driver):
        (listed,) = driver.list_gpus().gpus
        reads.energy()
        card.remove("hwmon")
        with pytest.raises(GpuError) as raised:
            reads.reader.read_energy(listed.handle, CAP_WATTS)
        assert raised.value.error_class is ErrorClass.DEVICE
        card.hwmon(9, "xe", **B580)
        assert reads.energy().counter_uj == 5_000_000

    @pytest.mark.parametrize(
        ("error", "error_class"),
        [
            (OSError(19, "No such device"), ErrorClass.DEVICE),
            (PermissionError(13, "Permission denied"), ErrorClass.DENIED),
            (OSError(5, "Input/output error"), ErrorClass.TRANSIENT),
        ],
    )
    def test_error_of_the_kernel_has_its_class(self, reads, monkeypatch, error, error_class):
        def fail(*_):
            raise error

        monkeypatch.setattr(os, "pread", fail)
        with pytest.raises(GpuError, match=error.strerror) as raised:
            reads.energy()
        assert raised.value.error_class is error_class

    def test_released_file_is_opened_again(self, reads):
        reads.energy()
        reads.reader.release()
        assert reads.energy().counter_uj == 5_000_000


PDEV = "0000:03:00.0"


def xe(client, ccs=0, total=0, rcs=0, pdev=PDEV):
    return XE_FDINFO.format(client=client, pdev=pdev, ccs=ccs, rcs=rcs, total=total)


def i915(client, compute=0, render=0):
    return I915_FDINFO.format(client=client, pdev=PDEV, compute=compute, render=render)


class TestUsers:
    """Each poll is one of a driver of its own procfs: SharedCall uses a scan for a moment."""

    @pytest.fixture
    def poll(self, reads, clock, monkeypatch):
        monkeypatch.setattr(reads.driver._users, "result", reads.driver._users._work)

        def poll(seconds=5):
            clock.advance(seconds)
            activity = reads.users()
            shares = {each.pid: round(each.active, 6) for each in activity.gpu_processes}
            return shares, activity

        return poll

    def test_activity_is_the_part_of_the_cycles_of_the_engines(self, tree, poll):
        tree.process(10, xe(1, ccs=1000, total=10_000))
        tree.process(11, xe(2, ccs=500, rcs=10, total=10_000))
        assert poll()[1].coverage == 0.0
        tree.process(10, xe(1, ccs=1000 + 4 * 3000, total=20_000))
        tree.process(11, xe(2, ccs=500 + 4 * 1000, rcs=10 + 500, total=20_000))
        shares, activity = poll()
        assert shares == {10: 0.3, 11: 0.15}
        assert activity.coverage == 1.0
        assert activity.utilization == pytest.approx(0.45)

    def test_activity_of_i915_is_the_busy_time(self, tree, card, poll):
        card.bind("i915")
        tree.process(10, i915(1, compute=1_000_000_000))
        poll()
        tree.process(10, i915(1, compute=3_000_000_000, render=500_000_000))
        assert poll()[0] == {10: 0.5}

    def test_copies_of_a_descriptor_are_one_client(self, tree, poll):
        tree.process(10, xe(1, ccs=4, total=10), xe(1, ccs=4, total=10))
        tree.process(12, xe(1, ccs=4, total=10))  # inherited
        poll()
        tree.process(10, xe(1, ccs=24, total=20), xe(1, ccs=24, total=20))
        tree.process(12, xe(1, ccs=24, total=20))
        assert poll()[0] == {10: 0.5}

    def test_clients_of_a_process_add_up(self, tree, poll):
        tree.process(10, xe(1, ccs=4, total=10), xe(2, ccs=4, total=10))
        poll()
        tree.process(10, xe(1, ccs=14, total=20), xe(2, ccs=14, total=20))
        assert poll()[0] == {10: 0.5}

    def test_client_that_has_not_worked_is_no_user(self, tree, poll):
        tree.process(10, xe(1, total=10))
        shares, activity = poll()
        assert (shares, activity.coverage, activity.why) == ({}, 1.0, "")

    def test_client_of_another_card_is_no_user(self, tree, poll):
        tree.process(10, xe(1, ccs=4, total=10, pdev="0000:76:00.0"))
        assert poll()[0] == {}

    def test_clients_of_a_sleeping_card_are_not_read(self, tree, poll, monkeypatch):
        """It would wake; programs keep the files of all cards open, used or not."""
        other = tree.card("0000:76:00.0", minor=2)
        tree.process(10, xe(1, ccs=4, total=10))
        tree.process(11, xe(1, ccs=4, total=10, pdev="0000:76:00.0"), node="renderD129")
        opened = []
        real = os.open

        def recorded(path, *arguments):
            opened.append(str(path))
            return real(path, *arguments)

        monkeypatch.setattr(os, "open", recorded)
        for status in ("active", "suspended"):
            other.write("power/runtime_status", status)
            opened.clear()
            assert list(poll()[0]) == [10]
            read = {path.split("/")[-3] for path in opened if "fdinfo" in path}
            assert read == {"active": {"10", "11"}, "suspended": {"10"}}[status]

    def test_process_that_has_exited_is_gone(self, tree, poll):
        tree.process(10, xe(1, ccs=4, total=10))
        poll()
        tree.process(10)
        assert poll()[0] == {}

    def test_hidden_processes_may_be_users(self, tree, poll, monkeypatch):
        tree.process(10, xe(1, ccs=4, total=10))
        listdir = os.listdir

        def guarded(path):
            if str(path).endswith("/10/fd"):
                raise PermissionError(13, "Permission denied")
            return listdir(path)

        monkeypatch.setattr(os, "listdir", guarded)
        with pytest.raises(GpuError, match="CAP_SYS_PTRACE") as raised:
            poll()
        assert raised.value.error_class is ErrorClass.DENIED
