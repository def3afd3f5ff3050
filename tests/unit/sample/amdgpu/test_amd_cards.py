"""Which AMD cards are found, and how they are described."""

import builtins
import os

import pytest

from exporter.errors import Unavailable
from exporter.model.readings import Method
from exporter.sample.sources.amdgpu import AmdDriver, has_gpus
from tests.amdgpu import hosts


@pytest.fixture
def listed(clock):
    """Return what the driver lists on a machine."""

    def run(machine):
        host = machine.host
        return AmdDriver(str(host.sysfs), str(host.procfs), clock).list_gpus()

    return run


class TestIdentity:
    def test_mi300x(self, tmp_path, listed):
        ((gpu,), failures, notes) = listed(hosts.mi300x(tmp_path))
        info = gpu.info
        assert (failures, notes) == ([], [])
        assert info.device == ("gpu", "GPU-e3aa140f9a5f9e31")
        assert (info.model, info.vendor, info.source) == (
            "AMD Instinct MI300X OAM",
            "AMD",
            "amdgpu",
        )
        assert (info.power_limit_watts, info.power_cap_watts) == (750, 1500)
        assert (info.method, info.ordinal) == (Method.COUNTER, "0")
        assert info.pci_bus_id == "0000:05:00.0"
        assert gpu.layout.slices == 0

    def test_names_of_schedulers_and_device_plugins(self, tmp_path, listed):
        ((gpu,), *_) = listed(hosts.mi300x(tmp_path))
        names = {"0000:05:00.0", "card1", "renderD128", "gpu-1-128", "GPU-e3aa140f9a5f9e31"}
        assert set(gpu.info.aliases) == names

    def test_radeon_without_product_name(self, tmp_path, listed):
        ((gpu,), *_) = listed(hosts.radeon(tmp_path))
        assert gpu.info.device.id == "GPU-d8607413b0e3a90b"
        assert gpu.info.model == "AMD GPU 0x744c"
        assert gpu.info.power_limit_watts == 265

    def test_card_without_serial_number_has_its_address_as_id(self, tmp_path, listed):
        machine = hosts.radeon(tmp_path)
        (machine.cards[0].path / "unique_id").unlink()
        ((gpu,), *_) = listed(machine)
        assert gpu.info.device.id == "0000:0b:00.0"

    def test_without_a_limit_plausible_power_is_bounded_by_a_default(self, tmp_path, listed):
        machine = hosts.radeon(tmp_path)
        machine.cards[0].sensor("power1_cap", 0)
        ((gpu,), *_) = listed(machine)
        assert (gpu.info.power_limit_watts, gpu.info.power_cap_watts) == (None, 1500)

    def test_counter_is_known_to_be_missing_at_once(self, tmp_path, listed):
        ((gpu,), *_) = listed(hosts.radeon(tmp_path))
        assert gpu.info.method is Method.INTEGRATED

    def test_counter_that_begins_later_is_used(self, tmp_path, clock):
        machine = hosts.mi300x(tmp_path)
        machine.cards[0].show(energy_accumulator=0)
        driver = AmdDriver(str(machine.host.sysfs), str(machine.host.procfs), clock)
        assert driver.list_gpus().gpus[0].info.method is Method.INTEGRATED
        machine.cards[0].show(energy_accumulator=5)
        assert driver.list_gpus().gpus[0].info.method is Method.COUNTER

    def test_other_drivers_and_vendors_are_not_listed(self, tmp_path, listed):
        machine = hosts.radeon(tmp_path)
        machine.host.card("0000:01:00.0", "0x67df", driver="radeon")
        machine.host.card("0000:02:00.0", "0x744c", driver="vfio-pci")
        machine.host.card("0000:03:00.0", "0x2204").write("vendor", "0x10de")
        assert [gpu.info.pci_bus_id for gpu in listed(machine).gpus] == ["0000:0b:00.0"]

    def test_machine_without_such_a_card_has_no_driver(self, tmp_path, clock):
        with pytest.raises(Unavailable, match="no AMD GPU with the driver amdgpu found"):
            AmdDriver(str(tmp_path), str(tmp_path), clock)
        assert not has_gpus(str(tmp_path))

    def test_unknown_revision_is_a_note_and_power_is_integrated(self, tmp_path, listed):
        machine = hosts.mi300x(tmp_path)
        machine.cards[0].write("gpu_metrics", b"\x08\x00\x01\x63aaaa")
        ((gpu,), _, notes) = listed(machine)
        assert notes == ["GPU 0000:05:00.0: revision 1.99 of gpu_metrics is not known"]
        assert gpu.info.method is Method.INTEGRATED


def recording(opened, real):
    """Return a function that notes what it is called with."""

    def run(path, *arguments, **named):
        opened.append(str(path))
        return real(path, *arguments, **named)

    return run


class TestSleepingCards:
    def test_card_is_described_without_being_woken(self, tmp_path, listed, monkeypatch):
        machine = hosts.radeon(tmp_path)
        machine.cards[0].write("power/runtime_status", "suspended")
        opened = []
        monkeypatch.setattr(builtins, "open", recording(opened, open))
        monkeypatch.setattr(os, "open", recording(opened, os.open))
        ((gpu,), failures, _) = listed(machine)
        assert (gpu.info.device.id, failures) == ("GPU-d8607413b0e3a90b", [])
        wakes = ("gpu_metrics", "power1_average", "power1_input", "power1_cap")
        assert any(path.endswith("unique_id") for path in opened)
        assert not [path for path in opened if path.endswith(wakes)]

    def test_idle_card_is_described_without_being_kept_awake(self, tmp_path, clock, monkeypatch):
        machine = hosts.radeon(tmp_path)
        driver = AmdDriver(str(machine.host.sysfs), str(machine.host.procfs), clock)
        before = driver.list_gpus()
        for name, text in (("runtime_usage", "0"), ("control", "auto")):
            machine.cards[0].write(f"power/{name}", text)
        opened = []
        monkeypatch.setattr(builtins, "open", recording(opened, open))
        monkeypatch.setattr(os, "open", recording(opened, os.open))
        assert driver.list_gpus() == before
        assert before.gpus[0].info.power_limit_watts == 265
        wakes = ("gpu_metrics", "power1_average", "power1_input", "power1_cap")
        assert not [path for path in opened if path.endswith(wakes)]


class TestApus:
    """An APU is part of the processor, whose counter includes it."""

    def test_apu_is_no_gpu(self, tmp_path, listed):
        machine = hosts.apu(tmp_path)
        (gpus, _, notes) = listed(machine)
        assert gpus == []
        assert notes == ["GPU 0000:04:00.0 is part of the processor, whose energy includes it"]
        assert not has_gpus(str(machine.host.sysfs))

    def test_card_beside_an_apu_is_one(self, tmp_path, listed):
        machine = hosts.radeon(tmp_path)
        machine.host.card("0000:04:00.0", "0x1638", sensors={"in1_label": "vddnb"})
        assert [gpu.info.pci_bus_id for gpu in listed(machine).gpus] == ["0000:0b:00.0"]
        assert has_gpus(str(machine.host.sysfs))

    def mi300a(self, tmp_path):
        machine = hosts.mi300x(tmp_path)
        machine.cards[0].write("device", "0x74a0")
        return machine

    def test_mi300a_covers_the_processor(self, tmp_path, listed):
        ((gpu,), *_) = listed(self.mi300a(tmp_path))
        assert gpu.covers_host
        assert gpu.info.model.endswith(" (whole module: GPU and CPU)")

    def test_mi300a_beside_a_counter_of_the_processor_is_not_counted(self, tmp_path, listed):
        machine = self.mi300a(tmp_path)
        zone = machine.host.sysfs / "class/powercap/intel-rapl:0"
        zone.mkdir(parents=True)
        (zone / "name").write_text("package-0\n")
        (gpus, _, notes) = listed(machine)
        assert gpus == []
        assert len(notes) == 1


class TestCardsWithTwoDies:
    @pytest.mark.parametrize("primary_first", [True, False])
    def test_card_is_one_device_with_two_partitions(self, tmp_path, listed, primary_first):
        machine = hosts.mi250x(tmp_path, primary_first=primary_first)
        ((gpu,), _, notes) = listed(machine)
        first, second = ("a32343daf897162a", "c1"), ("ff4251c4d1cac80c", "c6")
        primary, secondary = (first, second) if primary_first else (second, first)
        assert notes == []
        assert gpu.info.device.id == f"GPU-{primary[0]}"
        assert gpu.info.pci_bus_id == f"0000:{primary[1]}:00.0"
        assert gpu.info.power_limit_watts == 560
        assert gpu.layout.slices == 2
        assert [part.slices for part in gpu.layout.partitions] == [1, 1]
        assert [part.id for part in gpu.layout.partitions] == [
            f"GPU-{primary[0]}/0",
            f"GPU-{primary[0]}/1",
        ]
        names = {f"0000:{secondary[1]}:00.0", f"GPU-{secondary[0]}"}
        assert names <= set(gpu.layout.partitions[1].aliases)

    def test_names_of_a_die_are_those_of_its_partition(self, tmp_path, listed):
        ((gpu,), *_) = listed(hosts.mi250x(tmp_path))
        assert gpu.info.aliases == ()
        assert {"card1", "renderD129", "gpu-1-129", "1"} <= set(gpu.layout.partitions[1].aliases)

    def test_two_cards_are_two_devices(self, tmp_path, listed):
        machine = hosts.mi250x(tmp_path)
        for address, power in (("0000:c9:00.0", 0), ("0000:ce:00.0", 90)):
            card = machine.host.card(address, "0x740c", unique_id=address[5:7] * 8)
            card.show(average_socket_power=power, energy_accumulator=power)
        gpus = listed(machine).gpus
        assert [gpu.info.pci_bus_id for gpu in gpus] == ["0000:c1:00.0", "0000:ce:00.0"]

    def test_cards_of_other_models_are_no_pair(self, tmp_path, listed):
        """The rule of MI250 does not hold for MI300X."""
        machine = hosts.mi300x(tmp_path)
        card = machine.host.card("0000:26:00.0", "0x74a1", revision="1.7", unique_id="2")
        card.show(energy_accumulator=0, curr_socket_power=0)
        assert len(listed(machine).gpus) == 2

    def test_die_whose_primary_is_missing_is_a_note(self, tmp_path, listed):
        machine = hosts.mi250x(tmp_path)
        machine.cards[0].write("vendor", "0x0000")
        (gpus, _, notes) = listed(machine)
        assert gpus == []
        assert notes == [
            "GPU 0000:c6:00.0 measures no power, and the die that measures it was not found"
        ]


class TestPartitions:
    @pytest.mark.parametrize("count", [2, 4, 8])
    def test_partitions_share_the_card(self, tmp_path, listed, count):
        """DPX, QPX, CPX."""
        ((gpu,), *_) = listed(hosts.mi300x(tmp_path, count))
        assert gpu.layout.slices == count
        assert [part.slices for part in gpu.layout.partitions] == [1] * count

    def test_names_of_partitions(self, tmp_path, listed):
        """The PCI device is the first one (ROCm/k8s-device-plugin issue 157)."""
        ((gpu,), *_) = listed(hosts.mi300x(tmp_path, 8))
        first, second, *_ = gpu.layout.partitions
        assert gpu.info.aliases == ()
        assert first.id == "GPU-e3aa140f9a5f9e31/0"
        assert set(first.aliases) == {"0000:05:00.0", "card1", "renderD128", "gpu-1-128", "0"}
        assert set(second.aliases) == {
            "card2",
            "renderD129",
            "amdgpu_xcp_0",
            "amdgpu_xcp.0",
            "gpu-2-129",
            "1",
        }

    def test_number_of_a_partition_may_be_in_the_upper_bits(self, tmp_path, listed):
        """Later kernels have it there instead of in place of the PCI function."""
        machine = hosts.mi300x(tmp_path, 2)
        path = machine.host.nodes / "3/properties"
        moved = path.read_text().replace("location_id 1281", f"location_id {1280 | 1 << 28}")
        path.write_text(moved)
        ((gpu,), *_) = listed(machine)
        assert [part.id[-2:] for part in gpu.layout.partitions] == ["/0", "/1"]

    def test_parts_are_numbered_by_their_address(self, tmp_path, listed):
        """As by rocm-smi, whatever the order of KFD."""
        machine = hosts.mi300x(tmp_path, 2)
        for address in ("0000:04:00.0", "0000:06:00.0"):
            card = machine.host.card(address, "0x74a1", unique_id=address[6])
            card.show(energy_accumulator=1)
        machine.host.node(9, 777, {"location_id": 0x400, "drm_render_minor": 136})
        ordinals = {gpu.info.pci_bus_id: gpu.info.ordinal for gpu in listed(machine).gpus}
        assert ordinals == {"0000:04:00.0": "0", "0000:05:00.0": "", "0000:06:00.0": "3"}
