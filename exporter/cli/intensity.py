"""`intensity`: print the grid's carbon intensity, its source, and the best time for work."""

import argparse
import dataclasses
import json
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from exporter import formatting
from exporter.cli.config_flags import add_config_flags, config_from_options
from exporter.client.agent_client import AgentClient
from exporter.client.errors import AgentUnreachable
from exporter.clock import SystemClock
from exporter.convert import zones
from exporter.convert.provider import open_intensity_provider
from exporter.errors import ConfigError
from exporter.model.intensity import Factor, IntensityValue


class ForecastWindow(NamedTuple):
    """A time window in wall-clock seconds, and its mean intensity."""

    start: float
    end: float
    grams_per_kwh: float


def greenest_window(
    values: Sequence[IntensityValue], duration_seconds: float, until: float
) -> ForecastWindow | None:
    """Return the first window with the lowest mean intensity that ends by `until`.

    `values` are in order and begin now. None if the forecast covers no window without a gap.
    """
    if not values:
        return None
    now = values[0].start
    last = until - duration_seconds
    # The mean is piecewise linear: its slope changes only where an end of the window meets an end
    # of a value, so the minimum is at one of these.
    candidates = {at for value in values for at in (value.start, value.end - duration_seconds)}
    windows = [
        window
        for start in sorted({*candidates, last})
        if now <= start <= last
        if (window := mean_intensity(values, start, start + duration_seconds)) is not None
    ]
    return min(windows, key=lambda window: (window.grams_per_kwh, window.start), default=None)


def mean_intensity(
    values: Sequence[IntensityValue], start: float, end: float
) -> ForecastWindow | None:
    """Return the time-weighted mean over [start, end); None if it is not fully covered."""
    covered = total = 0.0
    for value in values:
        seconds = min(value.end, end) - max(value.start, start)
        if seconds > 0:
            covered += seconds
            total += seconds * value.grams_per_kwh
    # Adjacent values have no gap, but the sum of their lengths is rounded.
    if end <= start or covered < (end - start) * (1 - 1e-9):
        return None
    return ForecastWindow(start, end, total / covered)


def remaining_forecast(
    forecast: Sequence[IntensityValue], now: float, grams_per_kwh: float | None
) -> tuple[IntensityValue, ...]:
    """Return the forecast from `now` on, preceded by the current intensity if it starts later."""
    rest = [value._replace(start=max(value.start, now)) for value in forecast if value.end > now]
    if rest and grams_per_kwh is not None and rest[0].start > now:
        rest.insert(0, IntensityValue(now, rest[0].start, grams_per_kwh))
    return tuple(rest)


SECONDS_OF = {"m": 60.0, "h": 3600.0, "d": 86_400.0}
NO_WINDOW = (
    "no forecast covers --duration: configure a source with a forecast (electricity_maps, "
    "watttime, uk, energy_charts, energinet), or give a shorter --duration"
)
DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)([mhd])")


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "intensity",
        help="Print the carbon intensity of the grid, and when it is lowest.",
        description=f"{__doc__} Queries the daemon or, if none answers, the configured sources. "
        "With a settings file or a flag of `convert`, queries the sources that these configure.",
    )
    add_config_flags(parser)
    parser.add_argument(
        "--zone", help="Print the yearly value of this zone from the bundled tables instead."
    )
    parser.add_argument(
        "--forecast",
        metavar="DURATION",
        type=_parse_duration,
        help="Forecast period in which to search for the best time: 90m, 24h, 2d.",
    )
    parser.add_argument(
        "--duration",
        metavar="DURATION",
        type=_parse_duration,
        help="Duration of the work, such as 4h; prints the best time to start it.",
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="Format of the output."
    )
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Print the intensity. Returns 1 if no intensity, or no window, is available."""
    if options.zone is not None:
        factor = _of_zone(options.zone)
        state: dict[str, Any] = {
            "factor": _factor_to_json(factor),
            "why": f"yearly value of {factor.zone}: {factor.grams_per_kwh:.4g} g/kWh "
            f"({factor.basis}), {factor.source}",
        }
    else:
        state = _fetch_state(options)
    wants_window = options.forecast is not None or options.duration is not None
    window = _find_windows(state, options) if wants_window else {}
    if options.format == "json":
        print(json.dumps({**state, **window}, indent=2, default=str))
    else:
        for line in (*_state_lines(state), *_window_lines(window, options)):
            print(formatting.printable(line))
    return 0 if state["factor"] and (not wants_window or window.get("greenest")) else 1


def _of_zone(zone: str) -> Factor:
    """Return the yearly value of a zone. Raises ConfigError, which names the flag."""
    try:
        return zones.find_factor(zone)
    except ConfigError as error:
        raise ConfigError(f"--zone{str(error).removeprefix('convert.zone')}") from None


def _fetch_state(options: argparse.Namespace) -> dict[str, Any]:
    """Return the intensity from the daemon or, if none answers, from the configured sources.

    Sources that the command line configures are queried without the daemon.
    """
    socket = getattr(options, "expose.socket", None) or ""
    occasion = "as configured"
    if not _has_sources(options):
        try:
            return AgentClient(socket).intensity()
        except AgentUnreachable:
            if socket:
                raise
        occasion = "no daemon answered"
    clock = SystemClock()
    provider = open_intensity_provider(
        **dataclasses.asdict(config_from_options(options).convert), clock=clock
    )
    for refresh, _ in provider.refresh:
        refresh()
    state = provider.state_at(clock.wall())
    return {
        "at": clock.wall(),
        "factor": state.factor and _factor_to_json(state.factor),
        "why": f"{state.why} ({occasion}; queried by this command)",
        "forecast": [value._asdict() for value in state.forecast],
        "second": state.second and {"why": state.second.why},
        "sources": [{**feed._asdict(), "requests": dict(feed.requests)} for feed in state.feeds],
    }


def _has_sources(options: argparse.Namespace) -> bool:
    """Whether the command line has a settings file or a flag of the section `convert`."""
    flags = (value for name, value in vars(options).items() if name.startswith("convert."))
    return options.config_file is not None or any(value is not None for value in flags)


def _factor_to_json(factor: Factor) -> dict[str, Any]:
    """Convert a factor to JSON; infinite values become null, which JSON requires."""
    return {name: None if value == math.inf else value for name, value in factor._asdict().items()}


def _find_windows(state: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Return the window with the lowest intensity, the window that begins now, and the saving."""
    now, factor = state.get("at", 0.0), state["factor"] or {}
    forecast = [IntensityValue(**value) for value in state.get("forecast", ())]
    values = remaining_forecast(forecast, now, factor.get("grams_per_kwh"))
    duration = options.duration or SECONDS_OF["h"]
    until = now + options.forecast if options.forecast else (values[-1].end if values else now)
    best, first = (
        greenest_window(values, duration, until),
        mean_intensity(values, now, now + duration),
    )
    return {
        "greenest": best and best._asdict(),
        "now": first and first._asdict(),
        "saving_ratio": _saving_ratio(best, first),
    }


def _saving_ratio(best: ForecastWindow | None, first: ForecastWindow | None) -> float | None:
    if best is None or first is None or not first.grams_per_kwh:
        return None
    return 1 - best.grams_per_kwh / first.grams_per_kwh


def _state_lines(state: dict[str, Any]) -> list[str]:
    factor = state["factor"]
    lines = [
        f"{factor['grams_per_kwh']:.4g} g/kWh in {factor['zone']}"
        if factor
        else "no carbon intensity"
    ]
    lines.append(state["why"])
    if state.get("second"):
        lines.append(f"second intensity: {state['second']['why']}")
    return lines


def _window_lines(window: dict[str, Any], options: argparse.Namespace) -> list[str]:
    if not window:
        return []
    best, first = window["greenest"], window["now"]
    if best is None:
        return [NO_WINDOW]
    length = formatting.duration(options.duration or SECONDS_OF["h"])
    stretch = (
        f"from {formatting.timestamp(best['start'])} to {formatting.timestamp(best['end'])} UTC"
    )
    lines = [f"lowest for {length}: {stretch}, {best['grams_per_kwh']:.4g} g/kWh on average"]
    if first is not None:
        lines.append(f"starting now: {first['grams_per_kwh']:.4g} g/kWh on average")
    if window["saving_ratio"] is not None:
        lines.append(f"saving compared with starting now: {100 * window['saving_ratio']:.0f} %")
    return lines


def _parse_duration(text: str) -> float:
    found = DURATION.fullmatch(text)
    if found is None or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(
            f"expected a duration such as 90m, 4h or 2d, found {text!r}"
        )
    return float(found[1]) * SECONDS_OF[found[2]]
