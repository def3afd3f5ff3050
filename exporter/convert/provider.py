"""The intensity provider: the chains of the configured sources, with refresh, state and notes."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from exporter.clock import Clock
from exporter.convert import zones
from exporter.convert.chain import ChainStep, IntensityChain
from exporter.convert.live.feed import FeedPoller, LiveFeed
from exporter.convert.live.fetch_process import FetchProcess
from exporter.convert.registry import ChainBuilder, parse_entry
from exporter.convert.sources.file import IntensityFileStep
from exporter.errors import ConfigError, FetchError
from exporter.model.intensity import Signal
from exporter.model.snapshot import IntensityState
from exporter.model.workload import CollectorState
from exporter.setting import ways_to_set

METADATA_URL = "http://169.254.169.254"
UNFAILING_SOURCES = ("static", "table", "world")
FILE_REFRESH_SECONDS = 10.0
FEEDS_REFRESH_SECONDS = 1.0


class IntensityProvider(NamedTuple):
    """The intensity chain and the functions that keep it up to date."""

    chain: IntensityChain
    state_at: Callable[[float], IntensityState]
    """Returns the state at a time in Unix seconds, including the second intensity."""
    refresh: tuple[tuple[Callable[[], None], float], ...]
    """Functions for workers with their periods in seconds; they may block and do not raise."""
    states: Callable[[], tuple[CollectorState, ...]]
    """Returns the state of files and live sources at their last refresh."""
    memory: Callable[[], str]
    """Returns the argument `memory` for the next start."""
    stop: Callable[[], None]
    """Aborts blocking refreshes."""
    notes: tuple[str, ...]
    """Notes for the log at start."""


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
    """Open the configured sources; by default the static value, the file, the table or the world.

    The first arguments are the settings of the section `convert`; `memory` is the feed memory of
    an earlier provider, `settings_file` the settings file in use, for messages. The world average
    is used only if neither a zone nor any source is configured.
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
        notes += ["convert.file is not read: convert.grams_per_kwh takes precedence"]
    builder = ChainBuilder(zone, defaults, clock, child, memory, settings_file)
    steps = builder.steps(wanted, "convert.sources" if sources else "convert")
    notes += _unreachable_notes(sources, "convert.sources")
    notes += _unreachable_notes(second, "convert.second")
    _refuse_marginal(steps)
    others = builder.steps(second, "convert.second")
    chain = IntensityChain(steps, pue, allow_mixed_kinds=fallback == "any")
    if sources:
        _refuse_mixed(chain, "convert.sources", settings_file)
    elif not zone and wanted == ["world"]:
        notes += [chain.state_at(clock.wall()).why]
    else:
        notes += [_exclusion_text(chain, step) for step in chain.excluded]
    second_chain = IntensityChain(others, pue) if others else None
    if second_chain is not None:
        _refuse_mixed(second_chain, "convert.second", settings_file)
        first = second_chain.steps[0]
        if first.kind == chain.steps[0].kind:
            raise ConfigError(
                f"convert.second: {first.name} is of the same kind as the first intensity "
                f"({' '.join(first.kind)}); configure a source of another kind"
            )
    # A source may already have a note about the zone.
    if zone and not any(repr(zone) in note for note in builder.notes):
        notes += filter(None, [zones.unknown_zone_warning(zone)])
    feeds = FeedPoller([each.steps for each in (chain, second_chain) if each is not None], clock)
    files = [step for step in (*steps, *others) if isinstance(step, IntensityFileStep)]
    refresh = [(each.refresh, FILE_REFRESH_SECONDS) for each in files]
    if builder.is_live:
        refresh += [(feeds.refresh, FEEDS_REFRESH_SECONDS)]
    return IntensityProvider(
        chain,
        state_at=partial(_state_at, chain, second_chain, feeds),
        refresh=tuple(refresh),
        states=lambda: (*(each.state() for each in files), *feeds.collector_states()),
        memory=feeds.memory,
        stop=child.stop,
        notes=(*notes, *builder.notes),
    )


def _default_sources(zone: str, grams_per_kwh: float | None, file: str) -> list[str]:
    """Return the sources that are used if none are configured."""
    if grams_per_kwh is not None:
        return ["static"]
    if file:
        return ["file", "table"] if zone else ["file"]
    return ["table"] if zone else ["world"]


def _detect_region(
    child: FetchProcess, metadata_url: str, settings_file: str, has_sources: bool
) -> tuple[str, str]:
    """Return the region from the cloud's metadata service, and a note for the log.

    A region that is in no table is used only with configured sources, which may know it.
    """
    try:
        zone = str(child.run_job({"locate": metadata_url}))
    except FetchError as failure:
        return "", f"convert.cloud_metadata: {failure}; {zones.set_zone(settings_file)}"
    if not zones.country_of(zone) and not has_sources:
        remedy = zones.set_zone(settings_file)
        return "", f"convert.cloud_metadata: {zone} is in no bundled table; {remedy}"
    return zone, f"convert.cloud_metadata: this machine is in {zone}"


def _unreachable_notes(wanted: Sequence[Any], where: str) -> list[str]:
    """Return a warning about the sources after the first one that always has a value."""
    names = [parse_entry(entry, where)[0] for entry in wanted]
    first = next((number for number, name in enumerate(names) if name in UNFAILING_SOURCES), None)
    if first is None or not (later := names[first + 1 :]):
        return []
    never = f"{', '.join(later)} will never be used"
    return [f"{where}: {never}: {names[first]} always has a value; move {names[first]} to the end"]


def _exclusion_text(chain: IntensityChain, step: ChainStep) -> str:
    first = chain.steps[0]
    return (
        f"{step.name} cannot replace {first.name}: {first.name} is {' '.join(first.kind)}, "
        f"{step.name} is {' '.join(step.kind)}"
    )


def _refuse_mixed(chain: IntensityChain, where: str, settings_file: str) -> None:
    """Raise ConfigError if the chain has steps that can never be used."""
    for step in chain.excluded:
        remedy = ways_to_set("convert.fallback", "any", file=settings_file)
        fallback = "" if where == "convert.second" else f", or {remedy}"
        raise ConfigError(
            f"{where}: {_exclusion_text(chain, step)}; remove it, set its option `basis` to that "
            f"of the first if it has one{fallback}"
        )


def _refuse_marginal(steps: Sequence[ChainStep]) -> None:
    for step in steps:
        if Signal.MARGINAL in step.kind:
            raise ConfigError(
                f"convert.sources: {step.name} is marginal, which describes the effect of a "
                "decision and not what was emitted; move it to convert.second"
            )


def _state_at(
    chain: IntensityChain, second_chain: IntensityChain | None, feeds: FeedPoller, now: float
) -> IntensityState:
    second = None if second_chain is None else _chain_state(second_chain, now)
    return _chain_state(chain, now)._replace(second=second, feeds=feeds.feed_states())


def _chain_state(chain: IntensityChain, now: float) -> IntensityState:
    """Return the chain's state with recent values of the source in force and a forecast.

    The forecast is that of the source in force, else of the first live source that has one.
    """
    state = chain.state_at(now)
    live = [step for step in chain.steps if isinstance(step, LiveFeed)]
    first = None if state.factor is None else chain.steps[state.factor.step]
    forecasts = [step.forecast for step in (first, *live) if isinstance(step, LiveFeed)]
    return state._replace(
        recent=first.recent if isinstance(first, LiveFeed) else (),
        forecast=next(filter(None, forecasts), ()),
    )
