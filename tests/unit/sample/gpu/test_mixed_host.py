"""A host with GPUs of two vendors: one driver is broken in several ways, and the other goes on."""

from functools import partial

import pytest

from exporter.config import AccountConfig, Config, SampleConfig
from exporter.daemon import Daemon
from exporter.errors import RestartRequired
from exporter.model.readings import DeviceKind
from exporter.sample import registry
from exporter.sample.energy_counters import EnergyCounters
from exporter.sample.registry import EnergySource, OpenedSource, open_collectors
from exporter.sample.sources.gpu import collector
from exporter.sample.sources.gpu.driver import ErrorClass, GpuError
from exporter.worker import wait_until
from tests.unit.sample.gpu.conftest import SOON

SHORT = 0.1
"""Timeout of calls that hang."""


@pytest.fixture
def mixed(machine):
    """A GPU of each vendor, both of which have been read."""
    machine.card("alpha", 1)
    machine.card("beta", 2)
    machine.open("alpha", "beta")
    for vendor in ("alpha", "beta"):
        machine.until(vendor, lambda seen: bool(seen.readings[0].counter_uj))
    return machine


def hang(machine, monkeypatch):
    monkeypatch.setattr(collector, "READ_TIMEOUT_SECONDS", SHORT)
    machine.reader("alpha").may_answer.clear()


def raise_in(attribute, error):
    def break_it(machine, _):
        setattr(
            machine.reader("alpha") if attribute == "values" else machine.drivers["alpha"],
            attribute,
            error,
        )

    return break_it


def unplug(machine, _):
    (machine.sysfs / "bus/pci/devices/0000:01:00.0").rename(machine.sysfs / "unplugged")


BREAKAGES = {
    "hangs": hang,
    "unplugged": unplug,
    **{
        f"fails-{error_class.name.lower()}-in-{attribute}": raise_in(
            attribute, GpuError("broken", error_class)
        )
        for attribute in ("error", "values")
        for error_class in ErrorClass
        if error_class is not ErrorClass.PROCESS
    },
    "raises-in-error": raise_in("error", RuntimeError("broken")),
    "raises-in-values": raise_in("values", RuntimeError("broken")),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_the_other_vendor_goes_on(mixed, monkeypatch, breakage):
    counters = EnergyCounters(())
    file = mixed.sysfs / "bus/pci/devices/0000:02:00.0/energy_uj"
    BREAKAGES[breakage](mixed, monkeypatch)
    mixed.until("alpha", lambda seen: bool(seen.error))
    energy_uj = 0
    for second in range(11):
        counter_uj = 1_000_000 + 100_000_000 * second
        file.write_text(str(counter_uj))
        mixed.collectors["alpha"].read()
        seen = mixed.until("beta", partial(has_counter, counter_uj))
        assert not seen.error
        energy_uj += sum(interval.energy_uj for interval in counters.advance(seen))
        mixed.clock.advance(1)
    assert energy_uj == 1_000_000_000


def has_counter(counter_uj, seen):
    return seen.readings[0].counter_uj == counter_uj


def test_a_driver_that_must_not_be_used_again_ends_the_process(mixed):
    mixed.reader("alpha").values = GpuError("replaced", ErrorClass.PROCESS)

    def ends():
        try:
            mixed.collectors["alpha"].read()
        except RestartRequired as error:
            return "replaced" in str(error)
        return False

    assert wait_until(ends, SOON)
    assert not mixed.collectors["beta"].read().error


@pytest.fixture
def sources(machine, monkeypatch):
    """Both vendors as sources of the registry."""

    def source(vendor):
        def open_source(_):
            gpus = machine.open(vendor)
            return OpenedSource(
                gpus,
                covers_host=gpus.covers_host,
                release_driver=partial(gpus.release_for, 300.0),
            )

        return EnergySource(vendor, open_source)

    monkeypatch.setattr(registry, "SOURCES", (source("alpha"), source("beta")))

    def build():
        sysfs = str(machine.sysfs)
        return open_collectors(
            sysfs=sysfs, procfs=sysfs, clock=machine.clock, boot_id="boot", enabled={}
        )

    return build


def test_a_vendor_without_gpus_is_reported_and_the_other_is_opened(machine, sources):
    machine.card("beta", 2)
    opened = sources()
    assert [each.name for each in opened.device_collectors] == ["beta"]
    assert [(state.name, state.ok) for state in opened.states] == [("alpha", False)]
    (info,) = machine.until("beta", lambda seen: bool(seen.infos)).infos
    assert info.device.kind is DeviceKind.GPU


def test_the_page_has_the_gpus_of_both_vendors_and_the_collector_that_fails(
    machine, sources, tmp_path
):
    machine.card("alpha", 1)
    file = machine.card("beta", 2) / "energy_uj"
    config = Config(
        SampleConfig(sysfs=str(tmp_path), procfs=str(tmp_path)),
        account=AccountConfig(state_directory=str(tmp_path / "state")),
    )
    app = Daemon(config, {}, machine.clock)
    try:
        app.pipeline.tick()
        machine.drivers["alpha"].error = GpuError("broken", ErrorClass.NODE)
        machine.until("alpha", lambda seen: "broken" in seen.error)
        for second in range(1, 11):
            machine.clock.advance(1)
            file.write_text(str(1_000_000 + 100_000_000 * second))
            app.pipeline.tick()
        page = app.publisher.current.metrics_page.text().decode()
    finally:
        app.close()
    lines = page.splitlines()
    labels = 'device="gpu",id="beta-0000:02:00.0",method="counter"'
    assert f"emissions_device_energy_joules_total{{{labels}}} 1000.0" in lines
    assert 'emissions_device_up{device="gpu",id="alpha-0000:01:00.0"} 0.0' in lines
    assert 'emissions_device_up{device="gpu",id="beta-0000:02:00.0"} 1.0' in lines
    assert 'emissions_collector_success{collector="alpha"} 0.0' in lines
    assert 'emissions_collector_success{collector="beta"} 1.0' in lines


def test_all_drivers_are_released_together(machine, sources):
    machine.card("alpha", 1)
    machine.card("beta", 2)
    opened = sources()
    for each in opened.device_collectors:
        each.read()
    opened.release_driver()
    assert wait_until(lambda: not any(d.is_open for d in machine.drivers.values()), SOON)
