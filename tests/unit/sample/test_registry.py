"""Which collectors are opened."""

import errno
import os

import pytest

from exporter.clock import read_boot_id
from exporter.errors import ConfigError, Unavailable
from exporter.model.readings import DeviceKind
from exporter.sample import registry
from exporter.sample.registry import (
    COLLECTOR_NAMES,
    EnergySource,
    OpenedSource,
    open_collectors,
)
from exporter.sample.sources.dram_estimate import DramEstimateCollector
from exporter.sample.sources.node_query import NodeQuery
from tests.feeder import Package, PowercapTree
from tests.unit.sample.conftest import BOOT_ID, CPUINFO
from tests.unit.sample.sysfs import SysfsTree


@pytest.fixture
def opened(tmp_path, proc, clock):
    """Open the collectors of a machine with `packages`, and release them afterwards."""
    results = []

    def build(*packages, enabled=None, **settings):
        with PowercapTree(tmp_path / "sys", packages) as tree:
            result = open_collectors(
                sysfs=tree.root,
                procfs=proc.root,
                clock=clock,
                boot_id=read_boot_id(proc.root, clock),
                enabled=enabled or {},
                **settings,
            )
        results.append(result)
        return result

    yield build
    for result in results:
        for sampler in (*result.device_collectors, result.node_collector):
            if sampler is not None:
                sampler.release()


def names(result):
    return [collector.name for collector in result.device_collectors]


def notes(result):
    return "\n".join(result.notes)


def test_rapl_with_dram_needs_no_estimate(opened):
    result = opened(Package(100, 20))
    assert names(result) == ["rapl"]
    assert (result.states, result.notes) == ((), ())


def test_rapl_without_dram_gets_the_dram_estimate(opened):
    result = opened(Package(100))
    assert names(result) == ["rapl", "dram_estimate"]
    assert "0.3725 W per GB" in notes(result)


def test_without_rapl_both_are_estimated_with_a_remedy(opened):
    result = opened()
    assert names(result) == ["cpu_estimate", "dram_estimate"]
    assert [(state.name, state.ok) for state in result.states] == [("rapl", False)]
    assert "modprobe" in notes(result)
    assert "cpu energy is estimated" in notes(result)


def test_a_virtual_machine_without_counters_has_no_collector_that_fails(opened, proc):
    proc.write("cpuinfo", CPUINFO.replace("flags\t\t: ", "flags\t\t: hypervisor "))
    result = opened()
    assert result.states == ()
    assert "no energy counters" in notes(result)
    (state,) = opened(enabled={"rapl": True}).states
    assert (state.name, state.ok) == ("rapl", False)


def test_machine_with_only_a_platform_counter_is_estimated(opened, tmp_path):
    zone = tmp_path / "sys/class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("psys\n")
    (zone / "energy_uj").write_text("60293987000000\n")
    result = opened()
    assert names(result) == ["cpu_estimate", "dram_estimate"]
    assert "found: psys" in notes(result)
    assert "modprobe" not in notes(result)


def test_processor_of_a_counter_is_named_from_cpuinfo(opened):
    info = opened(Package(100, 20)).device_collectors[0].read().infos[0]
    assert (info.model, info.vendor) == ("Intel(R) Xeon(R) Platinum 8480+", "Intel")


def test_disabled_collector_is_not_opened_and_not_reported(opened):
    result = opened(Package(100, 20), enabled={"rapl": False, "dram_estimate": False})
    assert names(result) == ["cpu_estimate"]
    assert result.states == ()


def test_machine_without_sources_is_reported(opened):
    result = opened(enabled=dict.fromkeys(COLLECTOR_NAMES, False))
    assert result.device_collectors == ()
    assert "no energy is measured" in notes(result)


def test_configured_coefficients_reach_the_estimates(opened):
    result = opened(
        cpu_idle_watts_per_thread=0.5, cpu_full_watts_per_thread=2.0, dram_watts_per_gb=0.1
    )
    cpu, dram = (sampler.read().infos[0] for sampler in result.device_collectors)
    assert "0.50 to 2.00 W" in cpu.model
    assert "0.1 W per GB" in dram.model


def test_invalid_coefficients_are_refused(opened):
    with pytest.raises(ConfigError, match="cpu_idle_watts_per_thread"):
        opened(cpu_idle_watts_per_thread=500.0)


def test_replay_is_opened_alone(opened, replay_path):
    result = opened(Package(100, 20), replay=replay_path)
    assert names(result) == ["replay"]
    assert "nothing is measured" in notes(result)


def test_epoch_is_the_boot_id(opened):
    result = opened(Package(100, 20))
    assert result.device_collectors[0].read().readings[0].epoch == BOOT_ID


def test_missing_boot_id_is_reported_with_the_remedy(opened, proc):
    os.remove(os.path.join(proc.root, "sys/kernel/random/boot_id"))
    assert "boot_id cannot be read" in notes(opened(Package(100, 20)))


@pytest.mark.parametrize("enabled", [{}, {"meter": True}, {"meter": False}])
def test_source_without_its_hardware_fails_only_if_it_is_enabled_by_name(
    opened, monkeypatch, enabled
):
    def unavailable(_):
        raise Unavailable("no meter found; connect one")

    meter = EnergySource("meter", unavailable, is_present=lambda _: False)
    monkeypatch.setattr(registry, "SOURCES", (*registry.SOURCES, meter))
    result = opened(Package(100, 20), enabled=enabled)
    failed = enabled.get("meter", False)
    assert [state.name for state in result.states] == ["meter"] * failed
    assert result.notes == ("meter: no meter found; connect one",) * failed


@pytest.mark.parametrize("replaces", [None, DeviceKind.DRAM])
def test_source_of_a_kind_takes_the_place_of_the_estimates_after_it(
    opened, monkeypatch, clock, replaces
):
    def build(host):
        meter = DramEstimateCollector(host.procfs, clock, host.boot_id, 1.0)
        meter.name = "meter"
        return OpenedSource(meter, {DeviceKind.DRAM})

    meter = EnergySource("meter", build, replaces=replaces)
    place = COLLECTOR_NAMES.index("cpu_estimate")
    sources = (*registry.SOURCES[:place], meter, *registry.SOURCES[place:])
    monkeypatch.setattr(registry, "SOURCES", sources)
    result = opened(Package(100))
    assert names(result) == ["rapl", "meter"]
    assert result.notes == ()


def test_replacement_is_not_opened_beside_a_counter(opened, monkeypatch):
    def build(_):
        raise AssertionError

    meter = EnergySource("meter", build, replaces=DeviceKind.CPU)
    place = COLLECTOR_NAMES.index("cpu_estimate")
    sources = (*registry.SOURCES[:place], meter, *registry.SOURCES[place:])
    monkeypatch.setattr(registry, "SOURCES", sources)
    assert names(opened(Package(100, 20))) == ["rapl"]


@pytest.fixture
def hsmp(tmp_path):
    """The tree of `opened` has an EPYC socket with an HSMP sensor too."""
    sysfs = SysfsTree(str(tmp_path / "sys"))
    sysfs.hsmp_socket("ID00", 3, 200_000_000)
    return sysfs


@pytest.mark.usefixtures("hsmp")
def test_hsmp_is_used_where_rapl_is_absent(opened):
    result = opened()
    assert names(result) == ["hsmp", "dram_estimate"]
    assert [(state.name, state.ok) for state in result.states] == [("rapl", False)]
    assert "hsmp: cpu energy is integrated" in notes(result)


@pytest.mark.usefixtures("hsmp")
@pytest.mark.parametrize(
    ("enabled", "expected"), [({}, ["rapl"]), ({"rapl": False}, ["hsmp", "dram_estimate"])]
)
def test_hsmp_is_used_where_rapl_is_disabled_but_not_beside_it(opened, enabled, expected):
    assert names(opened(Package(100, 20), enabled=enabled)) == expected


@pytest.mark.usefixtures("hsmp")
def test_hsmp_is_used_where_rapl_is_unreadable(opened, monkeypatch):
    real = os.open

    def refuse(path, flags, *arguments, **named):
        if str(path).endswith("/energy_uj") and flags & os.O_ACCMODE == os.O_RDONLY:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, flags, *arguments, **named)

    monkeypatch.setattr(os, "open", refuse)
    result = opened(Package(100, 20))
    assert names(result) == ["hsmp", "dram_estimate"]
    assert "CVE-2020-8694" in notes(result)


def test_hsmp_that_cannot_be_read_leaves_the_estimate(opened, hsmp):
    hsmp.hsmp_socket("ID00", 3, 0, device=1)
    hsmp.write("devices/platform/AMDI0097:00/hwmon/hwmon3", {"power1_input": 0})
    result = opened()
    assert names(result) == ["cpu_estimate", "dram_estimate"]
    assert "reports 0," in notes(result)


@pytest.fixture
def meters(tmp_path):
    """Add all meters of the node to the tree of `opened`."""
    sysfs = SysfsTree(str(tmp_path / "sys"))
    sysfs.write("cray/pm_counters", {"energy": "1000 J 1734094386462336 us"})
    sysfs.acpi_meter(0, 262_000_000)
    files = {"name": "ibmpowernv", "power1_label": "System", "power1_input": 426_000_000}
    sysfs.write("bus/platform/drivers/ibmpowernv/opal-sensor/hwmon/hwmon0", files)
    return sysfs


NODE_QUERY = NodeQuery("http://127.0.0.1:9", "watts")


@pytest.mark.usefixtures("meters")
@pytest.mark.parametrize(
    ("disabled", "expected"),
    [
        ((), "node_query"),
        (("node_query",), "pm_counters"),
        (("node_query", "pm_counters"), "acpi_power_meter"),
        (("node_query", "pm_counters", "acpi_power_meter"), "board_power"),
    ],
)
def test_one_meter_covers_the_node_and_is_none_of_the_devices(opened, disabled, expected):
    enabled = dict.fromkeys(disabled, False)
    result = opened(Package(100, 20), enabled=enabled, node_query=NODE_QUERY, node="n")
    assert result.node_collector.name == expected
    assert names(result) == ["rapl"]


@pytest.mark.parametrize(("milliseconds", "lag"), [(300_000, 150.0), (2**32 - 1, 0.0), ("", 0.0)])
def test_lag_of_an_acpi_meter_is_half_of_its_average(opened, tmp_path, milliseconds, lag):
    sysfs = SysfsTree(str(tmp_path / "sys"))
    sysfs.acpi_meter(0, 262_000_000, power1_average_interval=milliseconds)
    assert opened().node_lag_seconds == lag


def test_machine_without_a_meter_has_no_failing_collector(opened):
    result = opened(Package(100, 20))
    assert (result.node_collector, result.states, result.notes) == (None, (), ())


@pytest.mark.parametrize("covers_host", [False, True])
def test_grace_sockets_are_not_counted_beside_a_counter_of_the_module(
    opened, tmp_path, monkeypatch, covers_host
):
    SysfsTree(str(tmp_path / "sys")).acpi_meter(1, 98_000_000, "Grace Power Socket 0")

    class Module(DramEstimateCollector):
        name = "module"

    def build(host):
        gpus = Module(host.procfs, host.clock, host.boot_id, 1.0)
        return OpenedSource(gpus, covers_host=lambda: covers_host)

    sources = (EnergySource("module", build), *registry.SOURCES[2:])
    monkeypatch.setattr(registry, "SOURCES", sources)
    assert names(opened()) == (["module"] if covers_host else ["module", "grace"])
