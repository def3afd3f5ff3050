"""Energy and users of AMD cards."""

import errno
import os
from itertools import pairwise

import pytest

from exporter.model.readings import Method, Reading
from exporter.sample.counter_arithmetic import advance_counter, without_implausible
from exporter.sample.sources.amdgpu import AmdDriver
from exporter.sample.sources.amdgpu import driver as driver_module
from exporter.sample.sources.amdgpu.kfd import OccupancySampler
from exporter.sample.sources.gpu.driver import ErrorClass, GpuError
from exporter.sample.sources.gpu.gpu import GpuMeter
from tests.amdgpu import hosts
from tests.amdgpu.host import counts

GPU_A, GPU_B = hosts.GPU_IDS[:2]
SECOND_NS = 1_000_000_000


class ManualWorker:
    """A worker that runs when the test calls it."""

    def __init__(self, work):
        self.work = work
        self.is_running = False

    def start(self):
        self.is_running = True

    def stop(self, _timeout_seconds):
        self.is_running = False
        return True


class Opened:
    """The first card of a machine, and the reader of it."""

    def __init__(self, machine, clock, monkeypatch):
        self.host, self.cards, self.clock = machine.host, machine.cards, clock
        self.workers = []

        def make_worker(_name, work, _period):
            self.workers.append(ManualWorker(work))
            return self.workers[-1]

        def make_sampler(sysfs):
            return OccupancySampler(sysfs, make_worker)

        monkeypatch.setattr(driver_module, "OccupancySampler", make_sampler)
        monkeypatch.setattr(driver_module, "SHARED_SECONDS", 0.0)
        driver = AmdDriver(str(self.host.sysfs), str(self.host.procfs), clock)
        (listed,) = driver.list_gpus().gpus
        self.info, self.handle = listed.info, listed.handle
        self.reader = driver.reader(listed.info)

    def energy(self):
        return self.reader.read_energy(self.handle, self.info.power_cap_watts)

    def users(self):
        return self.reader.read_users(self.handle)

    def processes(self):
        return {(each.pid, each.partition): each.active for each in self.users().gpu_processes}


@pytest.fixture
def opening(tmp_path, clock, monkeypatch):
    return lambda build, *rest: Opened(build(tmp_path, *rest), clock, monkeypatch)


class TestEnergy:
    def test_counter_and_power(self, opening):
        values = opening(hosts.mi300x).energy()
        assert (values.counter_uj, values.power_watts) == (1_000_000_000_000, 141)

    def test_card_with_two_dies_has_the_energy_of_the_primary_one(self, opening):
        values = opening(hosts.mi250x).energy()
        assert (values.counter_uj, values.power_watts) == (222_937_408_374_496, 144)

    def test_card_without_counter_has_power(self, opening):
        values = opening(hosts.radeon).energy()
        assert (values.counter_uj, values.power_watts) == (None, 55)

    @pytest.mark.parametrize("name", ["power1_average", "power1_input"])
    def test_sensor_is_used_if_the_table_has_no_power(self, opening, name):
        """MI300X has no average and MI210 no current power; Vega reports 0 in the table."""
        card = opening(hosts.radeon)
        card.cards[0].show(average_socket_power=0)
        (card.cards[0].path / "hwmon/hwmon3/power1_average").unlink()
        card.cards[0].sensor(name, 61_500_000)
        assert card.energy().power_watts == 61.5

    def test_card_without_the_table_has_power(self, opening):
        card = opening(hosts.radeon)
        card.cards[0].metrics.unlink()
        assert card.energy().power_watts == 55

    def test_guest_with_power_alone(self, opening):
        """Virtual functions may report power, and no counter."""
        card = opening(hosts.mi300x)
        card.cards[0].show(energy_accumulator=2**64 - 1)
        values = card.energy()
        assert (values.counter_uj, values.power_watts) == (None, 141)

    def test_time_is_that_of_the_kernel_driver(self, opening, clock):
        card = opening(hosts.mi300x)
        card.cards[0].show(system_clock_counter=clock.boottime_ns() - 3_000_000)
        assert card.energy().at_ns == clock.boottime_ns() - 3_000_000

    def test_time_of_the_firmware_is_more_exact(self, opening, clock):
        card = opening(hosts.mi300x)
        card.cards[0].show(
            system_clock_counter=clock.boottime_ns(), firmware_timestamp=500 * 100_000_000
        )
        began_ns = card.energy().at_ns
        clock.advance(1.2)
        card.cards[0].show(
            system_clock_counter=clock.boottime_ns(), firmware_timestamp=501 * 100_000_000
        )
        assert abs(card.energy().at_ns - began_ns - SECOND_NS) < 1_000_000

    def test_time_that_is_not_on_our_clock_is_not_used(self, opening, clock):
        """As in a time namespace."""
        card = opening(hosts.mi300x)
        card.cards[0].show(system_clock_counter=5)
        assert card.energy().at_ns == clock.boottime_ns()

    def test_epoch_is_another_one_when_the_driver_is_loaded_again(self, opening):
        card = opening(hosts.mi300x)
        before = card.energy().epoch
        assert card.energy().epoch == before != ""
        content = card.cards[0].metrics.read_bytes()
        os.rename(card.cards[0].metrics, card.cards[0].path / "old")
        card.cards[0].metrics.write_bytes(content)
        assert card.energy().epoch != before

    def test_idle_card_is_read_rarely_so_that_it_can_sleep(self, opening, clock):
        card = opening(hosts.radeon)
        for name, text in (("runtime_usage", "0"), ("control", "auto")):
            card.cards[0].write(f"power/{name}", text)
        first = card.energy()
        for second in range(1, 9):
            clock.advance(1)
            card.cards[0].show(average_socket_power=55 + second)
            if second < 8:
                assert card.energy() == first
        assert card.energy().power_watts == 63

    def test_counter_of_mi100_is_not_used(self, opening):
        """It has 32 bits and no documented unit, and stops: ROCm/amdsmi issues 22 and 38."""
        card = opening(hosts.mi100)
        assert card.info.method is Method.INTEGRATED
        values = card.energy()
        assert (values.counter_uj, values.power_watts) == (None, 250)

    def test_counter_of_a_radeon_is_not_used(self, opening):
        """Linux has reported 2^32 - 1, 0 and counts of 32 bits."""
        card = opening(hosts.radeon)
        card.cards[0].show(energy_accumulator=2**32 - 1)
        assert card.energy().counter_uj is None

    def test_frozen_counter_is_given_up(self, opening, clock):
        card = opening(hosts.mi250x)
        for _ in range(90):
            values = card.energy()
            clock.advance(1)
        assert (values.counter_uj, values.power_watts) == (None, 144)
        card.reader.forget()
        assert card.energy().counter_uj == 222_937_408_374_496

    @pytest.mark.parametrize(
        ("code", "error_class"),
        [
            (errno.ENODEV, ErrorClass.DEVICE),
            (errno.EPERM, ErrorClass.TRANSIENT),
            (errno.EACCES, ErrorClass.DENIED),
            (errno.EIO, ErrorClass.TRANSIENT),
        ],
    )
    def test_file_that_cannot_be_read_is_an_error(self, opening, monkeypatch, code, error_class):
        """Linux 6.15 refuses with EPERM while a card is suspended or being reset."""
        card = opening(hosts.mi300x)

        def refuse(*_):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "pread", refuse)
        with pytest.raises(GpuError, match="gpu_metrics: ") as raised:
            card.energy()
        assert raised.value.error_class is error_class

    def test_card_that_is_gone_is_an_error(self, opening):
        card = opening(hosts.mi300x)
        os.rename(card.cards[0].path, card.host.root / "gone")
        card.reader.release()
        with pytest.raises(GpuError) as raised:
            card.energy()
        assert raised.value.error_class is ErrorClass.DEVICE


def play(card, clock, watts, ticks, state=None):
    """Energy that is booked in so many seconds of a power, and the state after them."""
    meter = GpuMeter(card.reader, clock, "boot")
    booked_uj, shown = 0, card.cards[0]
    for _ in range(ticks):
        clock.advance(1)
        shown.show(energy_accumulator=shown.fields["energy_accumulator"] + counts(watts))
        reading: Reading = without_implausible(meter.read(card.handle, card.info), card.info)
        state, interval = advance_counter(state, reading, card.info)
        booked_uj += interval.energy_uj if interval is not None else 0
    return booked_uj, state


class TestKnownTruth:
    def test_a_minute_with_a_restart_and_an_absence_is_exact(self, tmp_path, clock, monkeypatch):
        """60 s at 417 W, of which a new process books those while no process ran."""
        machine = hosts.mi300x(tmp_path)
        first = Opened(machine, clock, monkeypatch)
        _, state = play(first, clock, 0, 1)
        booked_uj, state = play(first, clock, 417, 30, state)
        clock.advance(5)
        shown = machine.cards[0]
        shown.show(energy_accumulator=shown.fields["energy_accumulator"] + counts(5 * 417))
        second = Opened(machine, clock, monkeypatch)
        more_uj, _ = play(second, clock, 417, 25, state._replace(restored=True))
        assert booked_uj + more_uj == 60 * 417 * 1_000_000

    def test_counter_that_starts_again_is_a_reset(self, opening, clock):
        card = opening(hosts.mi300x)
        _, state = play(card, clock, 300, 5)
        card.cards[0].show(energy_accumulator=counts(1))
        booked_uj, _ = play(card, clock, 300, 5, state)
        assert booked_uj == 5 * 300 * 1_000_000 + 1_000_000


class TestComputeUsers:
    def test_process_with_a_queue_is_a_user(self, opening):
        card = opening(hosts.mi300x)
        card.host.compute(4242, GPU_A, queues=3)
        assert card.processes() == {(4242, ""): 0.0}

    def test_process_without_a_queue_is_none(self, opening):
        """Opening /dev/kfd is enough for a directory (ROCm/legacy-rocm-build issue 4411)."""
        card = opening(hosts.mi300x)
        card.host.compute(4242, GPU_A, queues=0, occupied=0)
        assert card.processes() == {}

    def test_process_on_another_card_is_none(self, opening):
        card = opening(hosts.mi300x)
        card.host.compute(4242, 999)
        assert card.processes() == {}

    def test_machine_without_kfd_has_none(self, opening):
        assert opening(hosts.radeon).processes() == {}

    def test_two_processes_have_their_mean_occupancy(self, opening):
        card = opening(hosts.mi300x)
        card.host.compute(1, GPU_A)
        card.host.compute(2, GPU_A)
        assert card.users().coverage == 0
        (worker,) = card.workers
        for units in ((304, 0), (152, 76), (0, 76)):
            card.host.compute(1, GPU_A, occupied=units[0])
            card.host.compute(2, GPU_A, occupied=units[1])
            worker.work()
        users = card.users()
        assert users.coverage == 1
        active = {each.pid: each.active for each in users.gpu_processes}
        assert active == {1: pytest.approx(0.5), 2: pytest.approx(1 / 6)}

    def test_contexts_of_a_process_add_up(self, opening):
        card = opening(hosts.mi300x)
        card.host.compute(1, GPU_A, queues=0, occupied=38)
        card.host.compute(1, GPU_A, occupied=38, context="context_0")
        card.host.compute(2, GPU_A, occupied=152)
        card.processes()
        card.workers[0].work()
        assert card.processes() == {(1, ""): 0.25, (2, ""): 0.5}

    def test_one_process_is_not_sampled(self, opening):
        card = opening(hosts.mi300x)
        card.host.compute(1, GPU_A, occupied=300)
        card.users()
        assert card.workers == []

    def test_sampling_ends_with_the_sharing(self, opening):
        card = opening(hosts.mi300x)
        card.host.compute(1, GPU_A, occupied=300)
        card.host.compute(2, GPU_A, occupied=4)
        card.users()
        (worker,) = card.workers
        assert worker.is_running
        for queue in (card.host.sysfs / "devices/virtual/kfd/kfd/proc/2/queues").iterdir():
            (queue / "gpuid").unlink()
        card.users()
        assert not worker.is_running

    def test_release_ends_the_sampling(self, opening):
        card = opening(hosts.mi300x)
        card.host.compute(1, GPU_A, occupied=300)
        card.host.compute(2, GPU_A, occupied=4)
        card.users()
        card.reader.release()
        assert not card.workers[0].is_running

    def test_without_occupancy_the_activity_is_not_known(self, opening):
        """The file is missing on RDNA (ROCm/TheRock issue 1878)."""
        card = opening(hosts.mi300x)
        card.host.compute(1, GPU_A)
        card.host.compute(2, GPU_A)
        card.users()
        card.workers[0].work()
        assert card.users().coverage == 0

    def test_process_that_ends_is_gone(self, opening):
        card = opening(hosts.mi300x)
        card.host.compute(1, GPU_A)
        card.users()
        os.rename(card.host.sysfs / "devices/virtual/kfd/kfd/proc/1", card.host.root / "ended")
        assert card.processes() == {}

    def test_process_ids_of_the_host_are_required(self, opening):
        card = opening(hosts.mi300x)
        own = card.host.procfs / str(os.getpid())
        (own / "ns").mkdir(parents=True)
        os.symlink("pid:[4026532555]", own / "ns/pid")
        os.symlink(str(os.getpid()), card.host.procfs / "self")
        driver = AmdDriver(str(card.host.sysfs), str(card.host.procfs), card.clock)
        card.handle = driver.list_gpus().gpus[0].handle
        with pytest.raises(GpuError, match="hostPID"):
            card.users()

    def test_procfs_of_the_host_in_a_container_has_them(self, opening):
        card = opening(hosts.mi300x)
        own = card.host.procfs / str(os.getpid() + 1)
        (own / "ns").mkdir(parents=True)
        os.symlink("pid:[4026532555]", own / "ns/pid")
        os.symlink(own.name, card.host.procfs / "self")
        card.host.compute(1, GPU_A)
        driver = AmdDriver(str(card.host.sysfs), str(card.host.procfs), card.clock)
        card.handle = driver.list_gpus().gpus[0].handle
        assert card.processes() == {(1, ""): 0.0}

    def test_topology_that_may_not_be_read_is_an_error(self, opening):
        card = opening(hosts.mi300x)
        for name in ("gpu_id", "properties"):
            (card.host.nodes / "2" / name).unlink()
        driver = AmdDriver(str(card.host.sysfs), str(card.host.procfs), card.clock)
        card.handle = driver.list_gpus().gpus[0].handle
        with pytest.raises(GpuError, match="device cgroup") as raised:
            card.users()
        assert raised.value.error_class is ErrorClass.DENIED


class TestPartitions:
    def test_users_are_on_their_partition(self, opening):
        card = opening(hosts.mi300x, 8)
        card.host.compute(1, GPU_A)
        card.host.compute(2, GPU_B)
        gpu = card.info.device.id
        assert card.processes() == {(1, f"{gpu}/0"): 0.0, (2, f"{gpu}/1"): 0.0}

    def test_activity_of_partitions_is_that_between_two_polls(self, opening, clock):
        card = opening(hosts.mi300x, 2)
        shown = card.cards[0]
        for second, (first, other) in enumerate(((0, 0), (400, 100), (800, 200))):
            shown.show_partition(0, [10] * 4, [first] * 4)
            shown.show_partition(1, [20] * 4, [other] * 4)
            shown.show(accumulation_counter=1 + 10 * second)
            card.energy()
            clock.advance(1)
        users = card.users()
        assert [part.active for part in users.partitions] == [0.4, 0.1]
        assert (users.coverage, users.slices) == (1, 2)

    def test_without_accumulation_activity_is_the_mean_of_the_readings(self, opening):
        card = opening(hosts.mi300x, 2)
        for busy in (10, 30):
            card.cards[0].show_partition(0, [busy] * 4, [])
            card.cards[0].show_partition(1, [0] * 4, [])
            card.cards[0].show()
            card.energy()
        assert [part.active for part in card.users().partitions] == [0.2, 0.0]

    def test_activity_of_dies_is_their_utilization(self, opening):
        card = opening(hosts.mi250x)
        for first, second in ((100, 10), (50, 30)):
            card.cards[0].show(average_gfx_activity=first)
            card.cards[1].show(average_gfx_activity=second)
            card.energy()
        users = card.users()
        assert [part.active for part in users.partitions] == [0.75, 0.2]
        assert users.utilization == 0.75

    def test_users_of_dies(self, opening):
        card = opening(hosts.mi250x)
        card.host.compute(1, GPU_A)
        card.host.compute(2, GPU_B)
        assert [partition[-2:] for _, partition in card.processes()] == ["/0", "/1"]


def fdinfo(pdev, busy_ns, client=7):
    return (
        f"drm-driver:\tamdgpu\ndrm-client-id:\t{client}\ndrm-pdev:\t{pdev}\n"
        f"drm-engine-gfx:\t{busy_ns} ns\ndrm-engine-dec:\t{busy_ns} ns\n"
    )


class TestGraphicsUsers:
    def test_activity_is_that_of_the_compute_units(self, opening, clock):
        card = opening(hosts.radeon)
        for busy_ns in (1, 1 + 2 * SECOND_NS):
            card.host.client(50, 4, fdinfo("0000:0b:00.0", busy_ns))
            processes = card.processes()
            clock.advance(5)
        assert processes == {(50, ""): 0.4}

    def test_client_that_has_not_worked_is_none(self, opening):
        """Programs of ROCm have such a client too (amdgpu_top issue 49)."""
        card = opening(hosts.radeon)
        card.host.client(50, 4, fdinfo("0000:0b:00.0", 0))
        assert card.processes() == {}

    def test_client_of_another_card_is_none(self, opening):
        card = opening(hosts.radeon)
        card.host.client(50, 4, fdinfo("0000:99:00.0", 5))
        assert card.processes() == {}

    def test_descriptors_of_other_vendors_are_not_read(self, opening, monkeypatch):
        """That would wake suspended cards of xe."""
        card = opening(hosts.radeon)
        card.host.client(50, 4, fdinfo("0000:0b:00.0", 5))
        card.host.client(50, 5, "drm-driver:\txe\n", target="/dev/dri/renderD129")
        opened = []
        real_open = os.open

        def recorded(path, *rest, **more):
            opened.append(str(path))
            return real_open(path, *rest, **more)

        monkeypatch.setattr(os, "open", recorded)
        card.users()
        assert [path[-11:] for path in opened if "fdinfo" in path] == ["50/fdinfo/4"]

    def test_graphics_and_compute_share_a_card(self, opening, clock):
        card = opening(hosts.mi300x)
        card.host.compute(1, GPU_A)
        card.host.client(50, 4, fdinfo(hosts.MI300X_ADDRESS, 1))
        card.users()
        card.host.compute(1, GPU_A, occupied=152)
        card.workers[0].work()
        clock.advance(5)
        card.host.client(50, 4, fdinfo(hosts.MI300X_ADDRESS, 1 + SECOND_NS))
        users = card.users()
        active = {each.pid: each.active for each in users.gpu_processes}
        assert (active, users.coverage) == ({1: 0.5, 50: 0.2}, 1)

    def test_graphics_on_a_die_is_on_its_partition(self, opening):
        card = opening(hosts.mi250x)
        card.host.client(50, 4, fdinfo("0000:c6:00.0", 5))
        ((_, partition),) = card.processes()
        assert partition.endswith("/1")


def test_energy_of_readings_never_steps_back(opening, clock):
    card = opening(hosts.mi300x)
    counters = []
    for second in range(20):
        card.cards[0].show(energy_accumulator=counts(1_000_000) + second * 7)
        counters.append(card.energy().counter_uj)
        clock.advance(1)
    assert all(before < after for before, after in pairwise(counters))
