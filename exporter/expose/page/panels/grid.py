"""The carbon intensity of the grid, and its sources."""

import math
import time
from collections.abc import Sequence

from exporter import human
from exporter.expose.page.panels.doubts import doubt
from exporter.expose.page.table import Cell, bold, number, table, verdict
from exporter.markup import Markup, together
from exporter.model.intensity import Factor, FeedState
from exporter.model.snapshot import GridState


def grid(state: GridState, now: float) -> Markup:
    """The intensity in force and where it comes from, the second one, and the live sources."""
    states = [state] if state.second is None else [state, state.second]
    rows = [_in_force(each, each.factor) for each in states if each.factor is not None]
    heads = ("Zone", ">Intensity", "Source", "Counts", ">PUE", ">Fallback step")
    nothing = f"None is known, grams stand still: {state.why}"
    return Markup(table("Grid intensity", heads, rows, nothing) + _feeds(state.feeds, now))


def _in_force(state: GridState, factor: Factor) -> tuple[Cell, ...]:
    return (
        bold(factor.zone),
        number(intensity(factor), _age(state, factor)),
        Cell(factor.source, _reason(state, factor), "prose"),
        Cell(f"{factor.signal}, {factor.basis}, {factor.accounting}"),
        number(f"{factor.pue:g}"),
        number(str(factor.step)),
    )


def _reason(state: GridState, factor: Factor) -> str:
    """Why this source is in force, and whether its value is estimated."""
    return together(doubt("estimated"), "; ", state.why) if factor.estimated else state.why


def _age(state: GridState, factor: Factor) -> str:
    """How old a value of a moment is; of which year one is that is tied to no moment."""
    if state.age_seconds is None:
        return ""
    if factor.valid_until == math.inf:
        return f"mean of {time.gmtime(factor.as_of).tm_year}"
    return f"{human.duration(state.age_seconds)} old"


def _feeds(feeds: Sequence[FeedState], now: float) -> Markup:
    if not feeds:
        return Markup("")
    rows = [
        (
            bold(feed.name, feed.zone),
            _fares(feed),
            number(str(sum(times for _, times in feed.requests)), _failures(feed)),
            number("never" if feed.answered is None else f"{_since(feed.answered, now)} ago"),
            Cell(feed.why, class_="prose"),
        )
        for feed in feeds
    ]
    heads = ("Source", "State", ">Requests", ">Last answer", "What to do")
    return table("Live sources of intensity", heads, rows, "")


def _fares(feed: FeedState) -> Cell:
    if not any(times for _, times in feed.requests) and feed.answered is None:
        return Cell("stands by")
    return verdict("works" if feed.ok else "does not work", ok=feed.ok)


def _failures(feed: FeedState) -> str:
    return ", ".join(f"{outcome} {times}" for outcome, times in feed.requests if outcome != "ok")


def _since(moment: float, now: float) -> str:
    return human.duration(max(0.0, now - moment))


def intensity(factor: Factor | None) -> str:
    """Grams of CO2 equivalent per kilowatt hour."""
    return human.UNKNOWN if factor is None else f"{human.number(factor.grams_per_kwh)} g/kWh"
