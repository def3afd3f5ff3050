"""Opens the chains of intensities that the settings ask for."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from exporter.clock import Clock
from exporter.convert import tables
from exporter.convert.chain import Chain, Step
from exporter.convert.live.feed import Feed
from exporter.convert.live.feeds import Feeds
from exporter.convert.live.fetch import Child
from exporter.convert.sources.file import IntensityFile
from exporter.convert.steps import Opener
from exporter.errors import ConfigError, FetchFailed
from exporter.model.intensity import Signal
from exporter.model.snapshot import GridState
from exporter.model.workload import CollectorState
from exporter.setting import ways_to_set

METADATA_URL = "http://169.254.169.254"
FILE_REFRESH_SECONDS = 10.0
FEEDS_REFRESH_SECONDS = 1.0


class OpenedChain(NamedTuple):
    """The chain and what keeps it fresh."""

    chain: Chain
    grid: Callable[[float], GridState]
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


def open_chain(
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
    child: Child | None = None,
    metadata_url: str = METADATA_URL,
    settings_file: str = "",
) -> OpenedChain:
    """The sources as they are set; else a number of one's own, the file, the table, the world.

    The first arguments are the settings of the section `convert`; `memory` is what an earlier
    chain gave, `settings_file` the file in use, which a note may name. The world average is used
    only where neither a zone nor anything else is set.
    Raises ConfigError.
    """
    child = child or Child()
    zone, notes = zone.strip(), []
    if not zone and cloud_metadata:
        zone, note = _located(child, metadata_url, settings_file, bool(sources))
        notes += [note]
    own = {"basis": basis, "accounting": accounting, "source": source}
    defaults: dict[str, dict[str, Any]] = {
        "static": {"grams_per_kwh": grams_per_kwh, **own},
        "file": {"path": file, "max_age_seconds": file_max_age_seconds, **own},
    }
    wanted = [*sources] or _simple(zone, grams_per_kwh, file)
    if not sources and grams_per_kwh is not None and file:
        notes += ["convert.file is not read: convert.grams_per_kwh goes before it"]
    opener = Opener(zone, defaults, clock, child, memory, settings_file)
    steps = opener.steps(wanted, "convert.sources" if sources else "convert")
    _refuse_marginal(steps)
    others = opener.steps(second, "convert.second")
    chain = Chain(steps, pue, any_kind=fallback == "any")
    if sources:
        _refuse_mixed(chain, "convert.sources", settings_file)
    elif not zone and wanted == ["world"]:
        notes += [chain.grid(clock.wall()).why]
    else:
        notes += [_left_out(chain, step) for step in chain.left_out]
    beside = Chain(others, pue) if others else None
    if beside is not None:
        _refuse_mixed(beside, "convert.second", settings_file)
        if beside.steps[0].kind == chain.steps[0].kind:
            raise ConfigError(
                f"convert.second: {beside.steps[0].name} counts the same as the first intensity "
                f"({' '.join(beside.steps[0].kind)}); it is for another kind"
            )
    if zone and not any(repr(zone) in note for note in opener.notes):
        notes += filter(None, [tables.warning(zone)])
    feeds = Feeds([each.steps for each in (chain, beside) if each is not None], clock)
    files = [step for step in (*steps, *others) if isinstance(step, IntensityFile)]
    refresh = [(each.refresh, FILE_REFRESH_SECONDS) for each in files]
    if opener.is_live:
        refresh += [(feeds.refresh, FEEDS_REFRESH_SECONDS)]
    return OpenedChain(
        chain,
        grid=partial(_grid, chain, beside, feeds),
        refresh=tuple(refresh),
        states=lambda: (*(each.state() for each in files), *feeds.states()),
        memory=feeds.memory,
        stop=child.stop,
        notes=(*notes, *opener.notes),
    )


def _simple(zone: str, grams_per_kwh: float | None, file: str) -> list[str]:
    """What is used where no sources are named."""
    if grams_per_kwh is not None:
        return ["static"]
    if file:
        return ["file", "table"] if zone else ["file"]
    return ["table"] if zone else ["world"]


def _located(
    child: Child, metadata_url: str, settings_file: str, has_sources: bool
) -> tuple[str, str]:
    """The region by the cloud's own service, and what to say of it.

    One that no table knows is of use to sources that know it themselves.
    """
    try:
        zone = str(child.ask({"locate": metadata_url}))
    except FetchFailed as failure:
        return "", f"convert.cloud_metadata: {failure}; {tables.set_zone(settings_file)}"
    if not tables.country(zone) and not has_sources:
        remedy = tables.set_zone(settings_file)
        return "", f"convert.cloud_metadata: {zone} is in no bundled table; {remedy}"
    return zone, f"convert.cloud_metadata: this machine is in {zone}"


def _left_out(chain: Chain, step: Step) -> str:
    first = chain.steps[0]
    return (
        f"{step.name} never stands in for {first.name}: {first.name} counts "
        f"{' '.join(first.kind)}, {step.name} {' '.join(step.kind)}"
    )


def _refuse_mixed(chain: Chain, where: str, settings_file: str) -> None:
    """Refuse a chain of which a part can never be used."""
    for step in chain.left_out:
        remedy = ways_to_set("convert.fallback", "any", file=settings_file)
        fallback = "" if where == "convert.second" else f", or {remedy}"
        raise ConfigError(
            f"{where}: {_left_out(chain, step)}; take it out, give it the basis of the first where "
            f"it has one{fallback}"
        )


def _refuse_marginal(steps: Sequence[Step]) -> None:
    for step in steps:
        if Signal.MARGINAL in step.kind:
            raise ConfigError(
                f"convert.sources: {step.name} is marginal, which says what a decision changes and "
                "not what was emitted; list it under convert.second"
            )


def _grid(chain: Chain, beside: Chain | None, feeds: Feeds, now: float) -> GridState:
    second = None if beside is None else _state(beside, now)
    return _state(chain, now)._replace(second=second, feeds=feeds.feeds())


def _state(chain: Chain, now: float) -> GridState:
    """With the past of the source in force, and the first forecast from there on."""
    state = chain.grid(now)
    live = [step for step in chain.steps if isinstance(step, Feed)]
    first = None if state.factor is None else chain.steps[state.factor.step]
    forecasts = [step.forecast for step in (first, *live) if isinstance(step, Feed)]
    return state._replace(
        recent=first.recent if isinstance(first, Feed) else (),
        forecast=next(filter(None, forecasts), ()),
    )
