"""Opens the chains of intensities that the settings ask for."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

from exporter.clock import Clock
from exporter.convert import zones
from exporter.convert.chain import ChainStep, IntensityChain
from exporter.convert.live.feed import FeedPoller, LiveFeed, parse_feed_memory, parse_memory
from exporter.convert.live.fetch_process import FetchProcess, parse_answer
from exporter.convert.sources.base import FetchResult, LiveSource
from exporter.convert.sources.file import IntensityFileStep
from exporter.errors import ConfigError, FetchError
from exporter.model.intensity import Signal
from exporter.model.snapshot import IntensityState
from exporter.model.workload import CollectorState
from exporter.setting import check_known_keys, from_mapping, ways_to_set

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
"""Names that `convert.sources` knows: the modules in `sources`, each with its class."""
DANISH_AREA_PREFIX = "DK-"
"""What the zones of the price areas of Denmark begin with."""


def live_source(name: str, options: Mapping[str, Any], where: str) -> LiveSource:
    """A live source made of its options. Raises ConfigError."""
    made: LiveSource = from_mapping(source_class(name), options, where)
    return made


def source_class(name: str) -> Any:
    """What a source is made with; only what is used is imported."""
    return getattr(import_module(f"exporter.convert.sources.{name}"), SOURCE_CLASSES[name])


class ChainBuilder:
    """Makes the steps of chains."""

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
        self._pasts = parse_memory(memory)
        self._settings_file = settings_file
        self._names: dict[str, int] = {}
        self.notes: list[str] = []
        self.is_live = False

    def steps(self, wanted: Sequence[Any], where: str) -> list[ChainStep]:
        """The steps for names, alone or with their options."""
        found = []
        for number, entry in enumerate(wanted, 1):
            name, options = _parse_entry(entry, f"{where}: entry {number}")
            found.append(self._step(name, options, where))
        return found

    def _step(self, name: str, options: Mapping[str, Any], where: str) -> ChainStep:
        if name == "world":
            from exporter.convert.sources.table import WorldSource

            return from_mapping(WorldSource, options, f"{where}: {name}").open(self._settings_file)
        at = f"convert.{name}" if where == "convert" else f"{where}: {name}"
        kind = source_class(name)
        fields = {item.name for item in dataclasses.fields(kind)}
        given = {**self._defaults.get(name, {}), **options}
        if "zone" in fields and not given.get("zone"):
            country = zones.country_alpha2(self._zone) if name == "energy_charts" else ""
            given["zone"] = country or self._zone
        if name == "energinet" and self._zone.upper().startswith(DANISH_AREA_PREFIX):
            given.setdefault("area", self._zone.upper().removeprefix(DANISH_AREA_PREFIX))
        source = from_mapping(kind, given, at)
        try:
            if hasattr(source, "open"):
                step: ChainStep = source.open(self._clock)
                return step
            self._check_country(source)
            self.notes += [f"{at}: {note}" for note in source.check()]
        except ConfigError as error:
            # What the sections already name needs no second place.
            raise ConfigError(_with_location(str(error), at)) from None
        return self._feed(name, source, dataclasses.asdict(source))

    def _check_country(self, source: LiveSource) -> None:
        country = zones.country_of(self._zone) if source.country and self._zone else ""
        if country and country != source.country:
            raise ConfigError(
                f"it knows {source.country} alone, but convert.zone is {self._zone}, "
                f"which is in {country}"
            )

    def _feed(self, name: str, source: LiveSource, options: Mapping[str, Any]) -> LiveFeed:
        self.is_live = True
        number = self._names[name] = self._names.get(name, 0) + 1
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
            parse_feed_memory(self._pasts.get(identity, {})),
        )


def _parse_entry(entry: Any, where: str) -> tuple[str, Mapping[str, Any]]:
    """Name and options of one entry of a list of sources."""
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


METADATA_URL = "http://169.254.169.254"
FILE_REFRESH_SECONDS = 10.0
FEEDS_REFRESH_SECONDS = 1.0


class IntensityProvider(NamedTuple):
    """The chain and what keeps it fresh."""

    chain: IntensityChain
    grid: Callable[[float], IntensityState]
    """The intensity in force at a wall clock, the second one with it."""
    refresh: tuple[tuple[Callable[[], None], float], ...] = ()
    """For workers, with their periods in seconds: each may block, none raises."""
    states: Callable[[], tuple[CollectorState, ...]] = tuple
    """How the sources that are read again and again fared at their last look."""
    memory: Callable[[], str] = str
    """What is to be handed over as `memory` after a restart."""
    stop: Callable[[], None] = lambda: None
    """Ends what blocks in `refresh`."""
    notes: tuple[str, ...] = ()
    """What a person should know from the start."""


def open_intensity_provider(
    *,
    zone: str,
    cloud_metadata: bool,
    sources: Sequence[Any],
    fallback: str,
    second: Sequence[Any],
    grams_per_kwh: float | None,
    basis: str,
    accounting: str,
    source: str,
    file: str,
    file_max_age_seconds: float,
    pue: float,
    clock: Clock,
    memory: str = "",
    child: FetchProcess | None = None,
    metadata_url: str = METADATA_URL,
    settings_file: str = "",
) -> IntensityProvider:
    """The sources as they are set; else a number of one's own, the file, the table, the world.

    The first arguments are the settings of the section `convert`; `memory` is what an earlier
    chain gave, `settings_file` the file in use, which a note may name. The world average is used
    only where neither a zone nor anything else is set.
    Raises ConfigError.
    """
    child = child or FetchProcess()
    zone, notes = zone.strip(), []
    if not zone and cloud_metadata:
        zone, note = _detect_region(child, metadata_url, settings_file, bool(sources))
        notes += [note]
    own = {"basis": basis, "accounting": accounting, "source": source}
    defaults: dict[str, dict[str, Any]] = {
        "static": {"grams_per_kwh": grams_per_kwh, **own},
        "file": {"path": file, "max_age_seconds": file_max_age_seconds, **own},
    }
    wanted = [*sources] or _default_sources(zone, grams_per_kwh, file)
    if not sources and grams_per_kwh is not None and file:
        notes += ["convert.file is not read: convert.grams_per_kwh goes before it"]
    opener = ChainBuilder(zone, defaults, clock, child, memory, settings_file)
    steps = opener.steps(wanted, "convert.sources" if sources else "convert")
    _refuse_marginal(steps)
    others = opener.steps(second, "convert.second")
    chain = IntensityChain(steps, pue, allow_mixed_kinds=fallback == "any")
    if sources:
        _refuse_mixed(chain, "convert.sources", settings_file)
    elif not zone and wanted == ["world"]:
        notes += [chain.state_at(clock.wall()).why]
    else:
        notes += [_exclusion_text(chain, step) for step in chain.excluded]
    beside = IntensityChain(others, pue) if others else None
    if beside is not None:
        _refuse_mixed(beside, "convert.second", settings_file)
        if beside.steps[0].kind == chain.steps[0].kind:
            raise ConfigError(
                f"convert.second: {beside.steps[0].name} counts the same as the first intensity "
                f"({' '.join(beside.steps[0].kind)}); it is for another kind"
            )
    if zone and not any(repr(zone) in note for note in opener.notes):
        notes += filter(None, [zones.unknown_zone_warning(zone)])
    feeds = FeedPoller([each.steps for each in (chain, beside) if each is not None], clock)
    files = [step for step in (*steps, *others) if isinstance(step, IntensityFileStep)]
    refresh = [(each.refresh, FILE_REFRESH_SECONDS) for each in files]
    if opener.is_live:
        refresh += [(feeds.refresh, FEEDS_REFRESH_SECONDS)]
    return IntensityProvider(
        chain,
        grid=partial(_current_grid, chain, beside, feeds),
        refresh=tuple(refresh),
        states=lambda: (*(each.state() for each in files), *feeds.collector_states()),
        memory=feeds.memory,
        stop=child.stop,
        notes=(*notes, *opener.notes),
    )


def _default_sources(zone: str, grams_per_kwh: float | None, file: str) -> list[str]:
    """What is used where no sources are named."""
    if grams_per_kwh is not None:
        return ["static"]
    if file:
        return ["file", "table"] if zone else ["file"]
    return ["table"] if zone else ["world"]


def _detect_region(
    child: FetchProcess, metadata_url: str, settings_file: str, has_sources: bool
) -> tuple[str, str]:
    """The region by the cloud's own service, and what to say of it.

    One that no table knows is of use to sources that know it themselves.
    """
    try:
        zone = str(child.run_job({"locate": metadata_url}))
    except FetchError as failure:
        return "", f"convert.cloud_metadata: {failure}; {zones.set_zone(settings_file)}"
    if not zones.country_of(zone) and not has_sources:
        remedy = zones.set_zone(settings_file)
        return "", f"convert.cloud_metadata: {zone} is in no bundled table; {remedy}"
    return zone, f"convert.cloud_metadata: this machine is in {zone}"


def _exclusion_text(chain: IntensityChain, step: ChainStep) -> str:
    first = chain.steps[0]
    return (
        f"{step.name} never stands in for {first.name}: {first.name} counts "
        f"{' '.join(first.kind)}, {step.name} {' '.join(step.kind)}"
    )


def _refuse_mixed(chain: IntensityChain, where: str, settings_file: str) -> None:
    """Refuse a chain of which a part can never be used."""
    for step in chain.excluded:
        remedy = ways_to_set("convert.fallback", "any", file=settings_file)
        fallback = "" if where == "convert.second" else f", or {remedy}"
        raise ConfigError(
            f"{where}: {_exclusion_text(chain, step)}; take it out, give it the basis of the first "
            f"where it has one{fallback}"
        )


def _refuse_marginal(steps: Sequence[ChainStep]) -> None:
    for step in steps:
        if Signal.MARGINAL in step.kind:
            raise ConfigError(
                f"convert.sources: {step.name} is marginal, which says what a decision changes and "
                "not what was emitted; list it under convert.second"
            )


def _current_grid(
    chain: IntensityChain, beside: IntensityChain | None, feeds: FeedPoller, now: float
) -> IntensityState:
    second = None if beside is None else _chain_state(beside, now)
    return _chain_state(chain, now)._replace(second=second, feeds=feeds.feed_states())


def _chain_state(chain: IntensityChain, now: float) -> IntensityState:
    """With the past of the source in force, and the first forecast from there on."""
    state = chain.state_at(now)
    live = [step for step in chain.steps if isinstance(step, LiveFeed)]
    first = None if state.factor is None else chain.steps[state.factor.step]
    forecasts = [step.forecast for step in (first, *live) if isinstance(step, LiveFeed)]
    return state._replace(
        recent=first.recent if isinstance(first, LiveFeed) else (),
        forecast=next(filter(None, forecasts), ()),
    )
