"""Machines with AMD GPUs, from public listings."""

from pathlib import Path
from typing import NamedTuple

from tests.amdgpu.host import AmdHost, Card, counts

ACCELERATOR, DISPLAY, VGA = "0x120000", "0x038000", "0x030000"
"""PCI classes."""
GPU_IDS = (24248, 41657, 59065, 2236, 22879, 42334, 57694, 3931)
"""Of nodes of KFD, in `testdata/topology-parsing-mi308` of ROCm/k8s-device-plugin ed764684."""
MI300X_ADDRESS, MI300X_ID = "0000:05:00.0", "e3aa140f9a5f9e31"


class Machine(NamedTuple):
    """A host, and its cards that can be changed."""

    host: AmdHost
    cards: tuple[Card, ...]


def mi300x(root: Path, partitions: int = 1) -> Machine:
    """An MI300X, in SPX, DPX, QPX or CPX mode.

    Device id, location, serial number, nodes and their units: `testdata/topo-mi300-cpx` in
    ROCm/k8s-device-plugin ed764684, of a machine in CPX mode. Platform devices of the partitions:
    issue 157 there. Sensors: MI300 has `power1_input` alone (amdgpu_pm.c). Values: made up.
    """
    host = AmdHost(root)
    card = host.card(
        MI300X_ADDRESS,
        "0x74a1",
        revision="1.7",
        unique_id=MI300X_ID,
        product="AMD Instinct MI300X OAM",
        drm=("card1", "renderD128"),
        pci_class=ACCELERATOR,
        sensors={"power1_input": 141_000_000, "power1_cap": 750_000_000},
    )
    host.node(0, 0, {"cpu_cores_count": 96, "simd_count": 0})
    for number in range(partitions):
        properties = {
            "cpu_cores_count": 0,
            "simd_count": 1216 // partitions,
            "simd_per_cu": 4,
            "location_id": 1280 + number,
            "domain": 0,
            "drm_render_minor": 128 + number,
            "unique_id": int(MI300X_ID, 16),
        }
        host.node(2 + number, GPU_IDS[number], properties)
        if number:
            name = f"renderD{128 + number}"
            host.platform(f"amdgpu_xcp_{number - 1}", f"card{1 + number}", name)
        xccs = 8 // partitions
        card.show_partition(number, [0] * xccs, [0] * xccs)
    card.show(
        curr_socket_power=141,
        average_gfx_activity=0,
        energy_accumulator=counts(1_000_000),
        num_partition=partitions,
        accumulation_counter=1,
    )
    return Machine(host, (card,))


def mi250x(root: Path, *, primary_first: bool = True) -> Machine:
    """A card MI250X: two dies, of which one measures both.

    Ids, address of the first, power and limit of both, counter: the listing of a node with four
    cards in wandb pull request 5449. Address of the second, units: made up. The primary die may be
    the first or the second one (rocm_smi_lib issue 160).
    """
    host = AmdHost(root)
    dies = (
        ("0000:c1:00.0", "a32343daf897162a", ("card0", "renderD128")),
        ("0000:c6:00.0", "ff4251c4d1cac80c", ("card1", "renderD129")),
    )
    cards = []
    host.node(0, 0, {"cpu_cores_count": 64, "simd_count": 0})
    for number, (address, unique_id, drm) in enumerate(dies):
        is_primary = (number == 0) == primary_first
        card = host.card(
            address,
            "0x7408",
            unique_id=unique_id,
            product="AMD INSTINCT MI200 (MCM) OAM LC MBA HPE C2",
            drm=drm,
            pci_class=DISPLAY,
            sensors={
                "power1_average": 144_000_000 if is_primary else 0,
                "power1_cap": 560_000_000 if is_primary else 0,
            },
        )
        card.show(
            average_gfx_activity=100,
            average_socket_power=144 if is_primary else 0,
            energy_accumulator=14_610_425_995_231 if is_primary else 0,
        )
        bus = int(address[5:7], 16)
        properties = {
            "cpu_cores_count": 0,
            "simd_count": 440,
            "simd_per_cu": 4,
            "location_id": bus << 8,
            "drm_render_minor": 128 + number,
        }
        host.node(1 + number, GPU_IDS[number], properties)
        cards.append(card)
    return Machine(host, tuple(cards if primary_first else cards[::-1]))


def radeon(root: Path) -> Machine:
    """A Radeon RX 7900 XT, which has no counter.

    Address, ids, power and limit: ollama issue 3144. The counter shows 0 and all other values of
    `gpu_metrics` as RX 9070 does (ollama issue 9633).
    """
    host = AmdHost(root)
    card = host.card(
        "0000:0b:00.0",
        "0x744c",
        unique_id="d8607413b0e3a90b",
        drm=("card0", "renderD128"),
        pci_class=VGA,
        sensors={"power1_average": 55_000_000, "power1_cap": 265_000_000},
    )
    card.show(average_socket_power=55, average_gfx_activity=0, energy_accumulator=0)
    return Machine(host, (card,))


def mi100(root: Path) -> Machine:
    """An MI100 after its driver was loaded.

    Counter: ROCm/amdsmi issue 38, where it is 65,628 and does not move. Device id: `amdgpu_drv.c`
    of Linux. Address, ids: made up.
    """
    host = AmdHost(root)
    card = host.card(
        "0000:27:00.0",
        "0x738c",
        revision="1.2",
        unique_id="18f68e602b8a790f",
        drm=("card1", "renderD128"),
        pci_class=DISPLAY,
        sensors={"power1_average": 250_000_000, "power1_cap": 290_000_000},
    )
    card.show(average_socket_power=250, energy_accumulator=65_628)
    return Machine(host, (card,))


def apu(root: Path, device: str = "0x1638", *, address: str = "0000:04:00.0") -> Machine:
    """A processor with a GPU: Ryzen 5000 (Cezanne).

    Device id: `amdgpu_drv.c` of Linux; only APUs have `in1_label` (amdgpu_pm.c).
    """
    host = AmdHost(root)
    card = host.card(
        address,
        device,
        revision=None,
        drm=("card0", "renderD128"),
        sensors={"in1_label": "vddnb", "power1_input": 11_000_000},
    )
    card.write("gpu_metrics", b"\x88\x00\x02\x02" + b"\x01" * 132)
    return Machine(host, (card,))
