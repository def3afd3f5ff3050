"""A host described in a JSON file, played as if it were this one: its devices and their energy."""

import json
import math
import zlib
from typing import Any, NamedTuple, TypeGuard

from exporter import units
from exporter.clock import Clock
from exporter.errors import ConfigError
from exporter.model.curves import Curve
from exporter.model.host import Tenants
from exporter.model.readings import Device, DeviceInfo, Kind, Method, Observation, Reading

NAME = "replay"


class Player(NamedTuple):
    """One device and its power in watts over time."""

    info: DeviceInfo
    watts: Curve


class Replay:
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
        self._players = _players(path, document)
        self._tenants = Tenants(document)
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
            occupancies=self._tenants.look(at_ns),
        )

    def release(self) -> None:
        """Nothing is held."""

    def _read(self, player: Player, at_ns: int) -> Reading:
        device = player.info.device
        if player.info.method is Method.INTEGRATED:
            watts = player.watts.at(units.seconds(at_ns))
            return Reading(device, at_ns, self._epoch, power_watts=watts)
        joules = player.watts.integral(0.0, units.seconds(at_ns))
        counter_uj = round(joules * units.MICROJOULES_PER_JOULE)
        if player.info.wrap_uj is not None:
            counter_uj %= player.info.wrap_uj
        return Reading(device, at_ns, self._epoch, counter_uj)


def _players(path: str, document: Any) -> tuple[Player, ...]:
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected an object with period_seconds and devices")
    period_seconds = _number(f"{path}: ", document, "period_seconds")
    devices = document.get("devices")
    if not isinstance(devices, list) or not devices:
        raise ConfigError(f"{path}: devices: expected a list of at least one device")
    players: dict[Device, Player] = {}
    for index, fields in enumerate(devices):
        gpus = sum(device.kind is Kind.GPU for device in players)
        player = _player(f"{path}: devices[{index}]", fields, period_seconds, str(gpus))
        device = player.info.device
        if device in players:
            raise ConfigError(f"{path}: devices[{index}].id: {device.id!r} is there twice")
        players[device] = player
    return tuple(players.values())


def _player(where: str, fields: Any, period_seconds: float, ordinal: str) -> Player:
    if not isinstance(fields, dict):
        raise ConfigError(f"{where}: expected an object, found {fields!r}")
    at = f"{where}."
    kind = _text(at, fields, "kind")
    if kind not in list(Kind):
        raise ConfigError(f"{at}kind: expected one of {', '.join(Kind)}, found {kind!r}")
    info = DeviceInfo(
        device=Device(Kind(kind), _text(at, fields, "id")),
        model=_text(at, fields, "model"),
        vendor=_text(at, fields, "vendor"),
        source=NAME,
        power_cap_watts=_number(at, fields, "power_cap_watts"),
        method=Method.COUNTER if fields.get("counter", True) else Method.INTEGRATED,
        wrap_uj=int(_number(at, fields, "wrap_uj")) if "wrap_uj" in fields else None,
        power_limit_watts=_optional(at, fields, "power_limit_watts"),
        ordinal=ordinal if kind == Kind.GPU else "",
        pci_bus_id=str(fields.get("pci_bus_id", "")),
    )
    points = fields.get("watts")
    if not isinstance(points, list) or not all(map(_is_point, points)):
        raise ConfigError(f"{at}watts: expected a list of [seconds, watts], none below 0")
    try:
        return Player(info, Curve([(time, value) for time, value in points], period_seconds))
    except ValueError as error:
        raise ConfigError(f"{at}watts: {error}") from None


def _is_point(point: Any) -> bool:
    return isinstance(point, list) and len(point) == 2 and all(map(_is_quantity, point))


def _is_quantity(value: Any) -> TypeGuard[float]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0


def _number(at: str, fields: dict[str, Any], key: str) -> float:
    value = fields.get(key)
    if not _is_quantity(value) or value == 0:
        raise ConfigError(f"{at}{key}: expected a number above 0, found {value!r}")
    return float(value)


def _optional(at: str, fields: dict[str, Any], key: str) -> float | None:
    return _number(at, fields, key) if key in fields else None


def _text(at: str, fields: dict[str, Any], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise ConfigError(f"{at}{key}: expected text, found {value!r}")
    return value
