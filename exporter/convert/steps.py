"""Makes sources of intensity of what the settings say of them, and steps of a chain of those."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from exporter.clock import Clock
from exporter.convert import tables
from exporter.convert.chain import Step
from exporter.convert.live.feed import Feed
from exporter.convert.live.feeds import remembered
from exporter.convert.live.fetch import Child, answer_of
from exporter.convert.live.past import from_json
from exporter.convert.live.source import Answer, LiveSource
from exporter.errors import ConfigError
from exporter.setting import refuse_unknown, section

SOURCES = {
    "electricity_maps": "ElectricityMaps",
    "watttime": "Watttime",
    "uk": "Uk",
    "rte": "Rte",
    "energy_charts": "EnergyCharts",
    "energinet": "Energinet",
    "exporter": "Exporter",
    "prometheus": "Prometheus",
    "file": "File",
    "static": "Static",
    "table": "Table",
}
"""Names that `convert.sources` knows: the modules in `sources`, each with its class."""
AREAS = "DK-"
"""What the zones of the price areas of Denmark begin with."""


def live_source(name: str, options: Mapping[str, Any], where: str) -> LiveSource:
    """A live source made of its options. Raises ConfigError."""
    made: LiveSource = section(source_class(name), options, where)
    return made


def source_class(name: str) -> Any:
    """What a source is made with; only what is used is imported."""
    return getattr(import_module(f"exporter.convert.sources.{name}"), SOURCES[name])


class Opener:
    """Makes the steps of chains."""

    def __init__(
        self,
        zone: str,
        defaults: Mapping[str, Mapping[str, Any]],
        clock: Clock,
        child: Child,
        memory: str,
        settings_file: str = "",
    ) -> None:
        self._zone = zone
        self._defaults = defaults
        self._clock = clock
        self._child = child
        self._pasts = remembered(memory)
        self._settings_file = settings_file
        self._names: dict[str, int] = {}
        self.notes: list[str] = []
        self.is_live = False

    def steps(self, wanted: Sequence[Any], where: str) -> list[Step]:
        """The steps for names, alone or with their options."""
        found = []
        for number, entry in enumerate(wanted, 1):
            name, options = _entry(entry, f"{where}: entry {number}")
            found.append(self._step(name, options, where))
        return found

    def _step(self, name: str, options: Mapping[str, Any], where: str) -> Step:
        if name == "world":
            from exporter.convert.sources.table import World

            return section(World, options, f"{where}: {name}").open(self._settings_file)
        at = f"convert.{name}" if where == "convert" else f"{where}: {name}"
        kind = source_class(name)
        fields = {item.name for item in dataclasses.fields(kind)}
        given = {**self._defaults.get(name, {}), **options}
        if "zone" in fields and not given.get("zone"):
            country = tables.alpha2(self._zone) if name == "energy_charts" else ""
            given["zone"] = country or self._zone
        if name == "energinet" and self._zone.upper().startswith(AREAS):
            given.setdefault("area", self._zone.upper().removeprefix(AREAS))
        source = section(kind, given, at)
        try:
            if hasattr(source, "open"):
                step: Step = source.open(self._clock)
                return step
            self._check_country(source)
            self.notes += [f"{at}: {note}" for note in source.check()]
        except ConfigError as error:
            # What the sections already name needs no second place.
            raise ConfigError(_placed(str(error), at)) from None
        return self._feed(name, source, dataclasses.asdict(source))

    def _check_country(self, source: LiveSource) -> None:
        country = tables.country(self._zone) if source.country and self._zone else ""
        if country and country != source.country:
            raise ConfigError(
                f"it knows {source.country} alone, but convert.zone is {self._zone}, "
                f"which is in {country}"
            )

    def _feed(self, name: str, source: LiveSource, options: Mapping[str, Any]) -> Feed:
        self.is_live = True
        number = self._names[name] = self._names.get(name, 0) + 1
        identity = json.dumps([name, options], sort_keys=True)

        def fetch(now: float, since: float) -> Answer:
            job = {"name": name, "options": options, "now": now, "since": since}
            return answer_of(self._child.ask(job))

        return Feed(
            name if number == 1 else f"{name}_{number}",
            identity,
            source,
            fetch,
            self._clock.wall(),
            from_json(self._pasts.get(identity, {})),
        )


def _entry(entry: Any, where: str) -> tuple[str, Mapping[str, Any]]:
    """Name and options of one entry of a list of sources."""
    options: Any = {}
    name = entry
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((name, options),) = entry.items()
    if not isinstance(name, str) or not isinstance(options or {}, Mapping):
        raise ConfigError(f"{where}: expected a name, or a name with its options")
    if name != "world":
        refuse_unknown({name: None}, SOURCES, where, "")
    return name, options or {}


def _placed(text: str, at: str) -> str:
    return text if text.startswith("convert.") else f"{at}: {text}"
