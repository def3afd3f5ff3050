"""Registry of intensity sources, and the builder of the steps of a chain."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from exporter.clock import Clock
from exporter.convert import zones
from exporter.convert.chain import ChainStep
from exporter.convert.live.feed import LiveFeed, parse_feed_memory, parse_memory
from exporter.convert.live.fetch_process import FetchProcess, parse_answer
from exporter.convert.sources.base import FetchResult, LiveSource
from exporter.errors import ConfigError
from exporter.setting import check_known_keys, from_mapping

SOURCE_CLASSES = {
    "electricity_maps": "ElectricityMaps",
    "watttime": "WattTime",
    "uk": "CarbonIntensityUk",
    "rte": "RteEco2mix",
    "energy_charts": "EnergyCharts",
    "energinet": "Energinet",
    "exporter": "ExporterSource",
    "prometheus": "PrometheusSource",
    "file": "FileSource",
    "static": "StaticSource",
    "table": "TableSource",
}
"""Names in `convert.sources`, which are modules of `sources`, with the class in each."""
DANISH_AREA_PREFIX = "DK-"
"""Prefix of the zones of Denmark's price areas."""


def live_source(name: str, options: Mapping[str, Any], where: str) -> LiveSource:
    """Create a live source from its options. Raises ConfigError."""
    source: LiveSource = from_mapping(source_class(name), options, where)
    return source


def source_class(name: str) -> Any:
    """Return the class of a source; only modules in use are imported."""
    return getattr(import_module(f"exporter.convert.sources.{name}"), SOURCE_CLASSES[name])


class ChainBuilder:
    """Builds the steps of chains from names and options."""

    def __init__(
        self,
        zone: str,
        defaults: Mapping[str, Mapping[str, Any]],
        clock: Clock,
        child: FetchProcess,
        memory: str,
        settings_file: str = "",
    ) -> None:
        self._zone = zone
        self._defaults = defaults
        self._clock = clock
        self._child = child
        self._memories = parse_memory(memory)
        self._settings_file = settings_file
        self._feed_counts: dict[str, int] = {}
        self.notes: list[str] = []
        self.is_live = False

    def steps(self, wanted: Sequence[Any], where: str) -> list[ChainStep]:
        """Return the steps for source names, each alone or with its options."""
        steps = []
        for number, entry in enumerate(wanted, 1):
            name, options = parse_entry(entry, f"{where}: entry {number}")
            steps.append(self._step(name, options, where))
        return steps

    def _step(self, name: str, options: Mapping[str, Any], where: str) -> ChainStep:
        if name == "world":
            from exporter.convert.sources.table import WorldSource

            return from_mapping(WorldSource, options, f"{where}: {name}").open(self._settings_file)
        at = f"convert.{name}" if where == "convert" else f"{where}: {name}"
        cls = source_class(name)
        fields = {item.name for item in dataclasses.fields(cls)}
        given = {**self._defaults.get(name, {}), **options}
        if "zone" in fields and not given.get("zone"):
            country = zones.country_alpha2(self._zone) if name == "energy_charts" else ""
            given["zone"] = country or self._zone
        if name == "energinet" and self._zone.upper().startswith(DANISH_AREA_PREFIX):
            given.setdefault("area", self._zone.upper().removeprefix(DANISH_AREA_PREFIX))
        source = from_mapping(cls, given, at)
        try:
            if hasattr(source, "open"):
                step: ChainStep = source.open(self._clock)
                return step
            self._check_country(source)
            self.notes += [f"{at}: {note}" for note in source.check()]
        except ConfigError as error:
            # An error that begins with a settings key needs no other location.
            raise ConfigError(_with_location(str(error), at)) from None
        return self._feed(name, source, dataclasses.asdict(source))

    def _check_country(self, source: LiveSource) -> None:
        country = zones.country_of(self._zone) if source.country and self._zone else ""
        if country and country != source.country:
            raise ConfigError(
                f"this source covers only {source.country}, but convert.zone is {self._zone}, "
                f"which is in {country}"
            )

    def _feed(self, name: str, source: LiveSource, options: Mapping[str, Any]) -> LiveFeed:
        self.is_live = True
        number = self._feed_counts[name] = self._feed_counts.get(name, 0) + 1
        identity = json.dumps([name, options], sort_keys=True)

        def fetch(now: float, since: float) -> FetchResult:
            job = {"name": name, "options": options, "now": now, "since": since}
            return parse_answer(self._child.run_job(job))

        return LiveFeed(
            name if number == 1 else f"{name}_{number}",
            identity,
            source,
            fetch,
            self._clock.wall(),
            parse_feed_memory(self._memories.get(identity, {})),
        )


def parse_entry(entry: Any, where: str) -> tuple[str, Mapping[str, Any]]:
    """Return name and options of one entry of a list of sources."""
    options: Any = {}
    name = entry
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((name, options),) = entry.items()
    if not isinstance(name, str) or not isinstance(options or {}, Mapping):
        raise ConfigError(f"{where}: expected a name, or a name with its options")
    if name != "world":
        check_known_keys({name: None}, SOURCE_CLASSES, where, "")
    return name, options or {}


def _with_location(text: str, at: str) -> str:
    return text if text.startswith("convert.") else f"{at}: {text}"
