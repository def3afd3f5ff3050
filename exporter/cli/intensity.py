"""`intensity`: what the grid is now, where the number comes from, the greenest window ahead."""

import argparse
import dataclasses
import json
import math
import re
from typing import Any

from exporter import human
from exporter.cli.settings import add_flags, settings
from exporter.client.agent import Agent
from exporter.client.errors import AgentUnreachable
from exporter.clock import SystemClock
from exporter.convert import tables
from exporter.convert.registry import open_chain
from exporter.convert.window import Window, ahead, greenest, mean
from exporter.errors import ConfigError
from exporter.model.intensity import Factor, Value

SECONDS_OF = {"m": 60.0, "h": 3600.0, "d": 86_400.0}
NO_WINDOW = (
    "no forecast that is long enough: a source that has one is needed (electricity_maps, "
    "watttime, uk, energy_charts, energinet), and --duration within it"
)
DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)([mhd])")


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "intensity",
        help="Print the carbon intensity of the grid, and when it is lowest.",
        description=f"{__doc__} Asks the daemon; where none answers, the sources that are set.",
    )
    add_flags(parser)
    parser.add_argument("--zone", help="The yearly value of another zone, from the tables alone.")
    parser.add_argument(
        "--forecast", metavar="DURATION", type=_seconds, help="How far to look ahead: 90m, 24h, 2d."
    )
    parser.add_argument(
        "--duration",
        metavar="DURATION",
        type=_seconds,
        help="How long the work takes, as 4h: prints the best time to start it.",
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="Format of the output."
    )
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Print it. 1 where there is no intensity, or no window."""
    if options.zone is not None:
        factor = _of_zone(options.zone)
        state: dict[str, Any] = {
            "factor": _finite(factor),
            "why": f"yearly value of {factor.zone}: {factor.grams_per_kwh:.4g} g/kWh "
            f"({factor.basis}), {factor.source}",
        }
    else:
        state = _asked(options)
    wants_window = options.forecast is not None or options.duration is not None
    window = _windows(state, options) if wants_window else {}
    if options.format == "json":
        print(json.dumps({**state, **window}, indent=2, default=str))
    else:
        for line in (*_said(state), *_chosen(window, options)):
            print(human.printable(line))
    return 0 if state["factor"] and (not wants_window or window.get("greenest")) else 1


def _of_zone(zone: str) -> Factor:
    """The yearly value of a zone. Raises ConfigError, which names the flag."""
    try:
        return tables.find(zone)
    except ConfigError as error:
        raise ConfigError(f"--zone{str(error).removeprefix('convert.zone')}") from None


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    """The daemon's answer, or one's own."""
    socket = getattr(options, "expose.socket", None) or ""
    try:
        return Agent(socket).intensity()
    except AgentUnreachable:
        if socket:
            raise
    clock = SystemClock()
    chain = open_chain(**dataclasses.asdict(settings(options).convert), clock=clock)
    for refresh, _ in chain.refresh:
        refresh()
    state = chain.grid(clock.wall())
    return {
        "at": clock.wall(),
        "factor": state.factor and _finite(state.factor),
        "why": f"{state.why} (no daemon answered; asked by this command)",
        "forecast": [value._asdict() for value in state.forecast],
        "second": state.second and {"why": state.second.why},
        "sources": [{**feed._asdict(), "requests": dict(feed.requests)} for feed in state.feeds],
    }


def _finite(factor: Factor) -> dict[str, Any]:
    """JSON has no infinity; what has no end is null."""
    return {name: None if value == math.inf else value for name, value in factor._asdict().items()}


def _windows(state: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """The greenest window, and the one that begins now."""
    now, factor = state.get("at", 0.0), state["factor"] or {}
    forecast = [Value(**value) for value in state.get("forecast", ())]
    values = ahead(forecast, now, factor.get("grams_per_kwh"))
    duration = options.duration or SECONDS_OF["h"]
    until = now + options.forecast if options.forecast else (values[-1].end if values else now)
    best, first = greenest(values, duration, until), mean(values, now, now + duration)
    return {
        "greenest": best and best._asdict(),
        "now": first and first._asdict(),
        "saving_ratio": _saving(best, first),
    }


def _saving(best: Window | None, first: Window | None) -> float | None:
    if best is None or first is None or not first.grams_per_kwh:
        return None
    return 1 - best.grams_per_kwh / first.grams_per_kwh


def _said(state: dict[str, Any]) -> list[str]:
    factor = state["factor"]
    lines = [f"{factor['grams_per_kwh']:.4g} g/kWh in {factor['zone']}" if factor else "no value"]
    lines.append(state["why"])
    if state.get("second"):
        lines.append(f"besides: {state['second']['why']}")
    return lines


def _chosen(window: dict[str, Any], options: argparse.Namespace) -> list[str]:
    if not window:
        return []
    best, first = window["greenest"], window["now"]
    if best is None:
        return [NO_WINDOW]
    length = human.duration(options.duration or SECONDS_OF["h"])
    stretch = f"from {human.moment(best['start'])} to {human.moment(best['end'])} UTC"
    lines = [f"greenest {length}: {stretch}, {best['grams_per_kwh']:.4g} g/kWh on average"]
    if first is not None:
        lines.append(f"beginning now: {first['grams_per_kwh']:.4g} g/kWh")
    if window["saving_ratio"] is not None:
        lines.append(f"saving against now: {100 * window['saving_ratio']:.0f} %")
    return lines


def _seconds(text: str) -> float:
    found = DURATION.fullmatch(text)
    if found is None or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a duration like 90m, 4h or 2d")
    return float(found[1]) * SECONDS_OF[found[2]]
