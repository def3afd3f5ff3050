"""Collector `replay`: replays the devices of a recorded host from a JSON file."""

import json
import zlib
from typing import NamedTuple

from exporter import units
from exporter.clock import Clock
from exporter.errors import ConfigError
from exporter.model.readings import (
    PART_KINDS,
    Device,
    DeviceInfo,
    DeviceKind,
    Method,
    Observation,
    Reading,
)
from exporter.model.recorded_host import Curve, HostFields, RecordedGpuProcesses
from exporter.sample.sources.gpu.identity import WHOLE_MODULE_SUFFIX

NAME = "replay"


class RecordedDevice(NamedTuple):
    """A device and its power in watts over time."""

    info: DeviceInfo
    watts: Curve


class ReplayCollector:
    """Counters that are the exact integral of the power curves of the file since boot.

    The values depend only on the time, so that they continue after a restart. Raises ConfigError
    with the file and the path of an invalid field.
    """

    name = NAME

    def __init__(self, path: str, clock: Clock, boot_id: str) -> None:
        self._clock = clock
        try:
            with open(path, "rb") as file:
                content = file.read()
            document = json.loads(content)
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be read: {error.strerror}; check sample.replay"
            ) from None
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: is not valid JSON: {error}") from None
        try:
            host = HostFields(document)
            self._devices = _devices(host)
            self._gpu_processes = RecordedGpuProcesses(host)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from None
        self.infos = tuple(device.info for device in self._devices)
        # Counters of different versions of the file are not comparable.
        self._epoch = f"{boot_id}/{zlib.crc32(content):08x}"

    def read(self) -> Observation:
        """Return every counter."""
        at_ns = self._clock.boottime_ns()
        return Observation(
            source=self.name,
            at_ns=at_ns,
            infos=self.infos,
            readings=tuple(self._read(device, at_ns) for device in self._devices),
            gpu_activity=self._gpu_processes.collect(at_ns),
        )

    def release(self) -> None:
        """Do nothing; no resources are held."""

    def _read(self, recorded: RecordedDevice, at_ns: int) -> Reading:
        device = recorded.info.device
        if recorded.info.method is Method.INTEGRATED:
            watts = recorded.watts.at(units.seconds(at_ns))
            return Reading(device, at_ns, self._epoch, power_watts=watts)
        joules = recorded.watts.integral(0.0, units.seconds(at_ns))
        counter_uj = round(joules * units.MICROJOULES_PER_JOULE)
        if recorded.info.wrap_uj is not None:
            counter_uj %= recorded.info.wrap_uj
        return Reading(device, at_ns, self._epoch, counter_uj)


def _devices(host: HostFields) -> tuple[RecordedDevice, ...]:
    period_seconds = host.positive("period_seconds")
    devices: dict[Device, RecordedDevice] = {}
    for fields in host.rows("devices"):
        gpus = sum(device.kind is DeviceKind.GPU for device in devices)
        recorded = _device(fields, period_seconds, str(gpus))
        device = recorded.info.device
        if device in devices:
            raise ValueError(f"{fields.place('id')}: duplicate id {device.id!r}")
        devices[device] = recorded
    if not devices:
        raise host.mistake("devices", "a list of at least one device")
    return tuple(devices.values())


def _device(fields: HostFields, period_seconds: float, ordinal: str) -> RecordedDevice:
    kind = DeviceKind(fields.choice("kind", PART_KINDS))
    has_module = fields.choice("scope", ("gpu", "module"), "gpu") == "module"
    method = Method.COUNTER if fields.flag("counter", default=True) else Method.INTEGRATED
    if fields.flag("estimated", default=False):
        method = Method.ESTIMATED
    has_limit = "power_limit_watts" in fields
    info = DeviceInfo(
        device=Device(kind, fields.text("id")),
        model=fields.text("model") + WHOLE_MODULE_SUFFIX * has_module,
        vendor=fields.text("vendor"),
        source=NAME,
        power_cap_watts=fields.positive("power_cap_watts"),
        method=method,
        wrap_uj=int(fields.positive("wrap_uj")) if "wrap_uj" in fields else None,
        power_limit_watts=fields.positive("power_limit_watts") if has_limit else None,
        ordinal=ordinal if kind is DeviceKind.GPU else "",
        pci_bus_id=fields.text("pci_bus_id", ""),
    )
    return RecordedDevice(info, fields.curve("watts", period_seconds))
