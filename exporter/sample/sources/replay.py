"""A host described in a JSON file, played as if it were this one: its devices and their energy."""

import json
import zlib
from typing import NamedTuple

from exporter import units
from exporter.clock import Clock
from exporter.errors import ConfigError
from exporter.model.readings import Device, DeviceInfo, DeviceKind, Method, Observation, Reading
from exporter.model.recorded_host import Curve, HostFields, RecordedGpuProcesses
from exporter.sample.sources.nvml.inventory import SUPERCHIP_SUFFIX

NAME = "replay"


class RecordedDevice(NamedTuple):
    """One device and its power in watts over time."""

    info: DeviceInfo
    watts: Curve


class ReplayCollector:
    """Counters that are the exact integral of the file's curves since boot.

    Whoever reads at one moment reads the same, before and after a restart. Raises ConfigError
    naming the file and the place in it.
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
        except ValueError as error:
            raise ConfigError(f"{path}: is not valid JSON: {error}") from None
        try:
            host = HostFields(document)
            self._players = _players(host)
            self._tenants = RecordedGpuProcesses(host)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from None
        self.infos = tuple(player.info for player in self._players)
        # Counters of another version of the file are other counters.
        self._epoch = f"{boot_id}/{zlib.crc32(content):08x}"

    def read(self) -> Observation:
        """Every counter now."""
        at_ns = self._clock.boottime_ns()
        return Observation(
            source=self.name,
            at_ns=at_ns,
            infos=self.infos,
            readings=tuple(self._read(player, at_ns) for player in self._players),
            gpu_activity=self._tenants.collect(at_ns),
        )

    def release(self) -> None:
        """Nothing is held."""

    def _read(self, player: RecordedDevice, at_ns: int) -> Reading:
        device = player.info.device
        if player.info.method is Method.INTEGRATED:
            watts = player.watts.at(units.seconds(at_ns))
            return Reading(device, at_ns, self._epoch, power_watts=watts)
        joules = player.watts.integral(0.0, units.seconds(at_ns))
        counter_uj = round(joules * units.MICROJOULES_PER_JOULE)
        if player.info.wrap_uj is not None:
            counter_uj %= player.info.wrap_uj
        return Reading(device, at_ns, self._epoch, counter_uj)


def _players(host: HostFields) -> tuple[RecordedDevice, ...]:
    period_seconds = host.positive("period_seconds")
    players: dict[Device, RecordedDevice] = {}
    for fields in host.rows("devices"):
        gpus = sum(device.kind is DeviceKind.GPU for device in players)
        player = _player(fields, period_seconds, str(gpus))
        device = player.info.device
        if device in players:
            raise ValueError(f"{fields.place('id')}: {device.id!r} is there twice")
        players[device] = player
    if not players:
        raise host.mistake("devices", "a list of at least one device")
    return tuple(players.values())


def _player(fields: HostFields, period_seconds: float, ordinal: str) -> RecordedDevice:
    kind = DeviceKind(fields.choice("kind", tuple(DeviceKind)))
    has_module = fields.choice("scope", ("gpu", "module"), "gpu") == "module"
    method = Method.COUNTER if fields.flag("counter", default=True) else Method.INTEGRATED
    if fields.flag("estimated", default=False):
        method = Method.ESTIMATED
    has_limit = "power_limit_watts" in fields
    info = DeviceInfo(
        device=Device(kind, fields.text("id")),
        model=fields.text("model") + SUPERCHIP_SUFFIX * has_module,
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
