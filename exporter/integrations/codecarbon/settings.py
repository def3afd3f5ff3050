"""Settings of a CodeCarbon tracker, from arguments, environment and CodeCarbon's files."""

import configparser
import difflib
import os
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from exporter.convert import zones
from exporter.convert.zones import find_zone, locate_zone, suggestion
from exporter.errors import ConfigError
from exporter.model.intensity import kg_per_kwh_error
from exporter.report import quantities
from exporter.report.forms.codecarbon import ConversionOverrides

MAX_SUGGESTIONS = 3
FILE = ".codecarbon.config"
SECTION = "codecarbon"
PREFIX = "codecarbon_"
ARGUMENTS = (
    *("project_name", "measure_power_secs", "api_call_interval", "api_endpoint", "api_key"),
    *("output_dir", "output_file", "output_methods", "save_to_file", "save_to_api"),
    *("save_to_logger", "logging_logger", "save_to_prometheus", "save_to_logfire"),
    *("prometheus_url", "output_handlers", "gpu_ids", "emissions_endpoint", "experiment_id"),
    *("experiment_name", "electricitymaps_api_token", "co2_signal_api_token", "tracking_mode"),
    *("log_level", "on_csv_write", "logger_preamble", "force_cpu_power", "force_ram_power"),
    *("pue", "wue", "force_carbon_intensity_g_co2e_kwh", "force_mode_cpu_load"),
    *("allow_multiple_runs", "rapl_include_dram", "rapl_prefer_psys", "metadata"),
)
"""Arguments of a tracker, in positional order."""
LOCATION_ARGUMENTS = (
    *("country_iso_code", "region", "cloud_provider", "cloud_region"),
    "country_2letter_iso_code",
)
"""Keyword arguments of an offline tracker."""
_BEFORE_OFFLINE = ARGUMENTS.index("force_cpu_power")
OF_DECORATOR = (
    *(*ARGUMENTS[:_BEFORE_OFFLINE], "offline", *LOCATION_ARGUMENTS),
    *(
        name
        for name in ARGUMENTS[_BEFORE_OFFLINE:]
        if name not in ("force_mode_cpu_load", "metadata")
    ),
)
"""Arguments of `track_emissions`, in positional order."""
SUPPORTED = {
    *("project_name", "output_dir", "output_file", "output_methods", "save_to_file"),
    *("output_handlers", "experiment_id", "experiment_name", "tracking_mode", "on_csv_write"),
    *("pue", "wue", "force_carbon_intensity_g_co2e_kwh", *LOCATION_ARGUMENTS),
    *("save_to_logger", "logging_logger", "log_level", "measure_power_secs", "api_call_interval"),
}
IGNORED_SILENTLY = {"allow_multiple_runs", "rapl_include_dram", "logger_preamble"}
"""Arguments that are unnecessary: the daemon counts memory and serves several trackers."""
WRITTEN_BY_CONFIG = {"api_endpoint", "api_key"}
"""Settings that the command `codecarbon config` writes to every file."""
METHODS = ("csv", "logger")
"""Supported output methods."""
UNSUPPORTED_REASONS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            ("save_to_prometheus", "prometheus_url"), "Prometheus scrapes the daemon's /metrics"
        ),
        **dict.fromkeys(
            ("electricitymaps_api_token", "co2_signal_api_token"),
            "set `zone` and `sources` under `convert:` in the daemon's settings file instead",
        ),
        **dict.fromkeys(
            ("force_cpu_power", "force_ram_power", "force_mode_cpu_load", "rapl_prefer_psys"),
            "the daemon measures or estimates according to its own settings",
        ),
        "gpu_ids": "a run uses the GPUs of its processes",
        "metadata": "use labels of track() instead",
    }
)
FORCED_INTENSITY = "force_carbon_intensity_g_co2e_kwh"
MEASURE_SECONDS, MEASUREMENTS = 15.0, 8
"""Defaults of `measure_power_secs`, and of `api_call_interval`, which is a number of these."""
LEVELS: Mapping[str, int] = MappingProxyType(
    {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
)
NOTHING_SENT = "no data is sent to a server"
FALSE = ("", "0", "false", "no", "off", "none")
MODES = ("machine", "process")


class TrackerSettings(NamedTuple):
    """Resolved settings of a tracker."""

    project_name: str
    experiment_id: str
    experiment_name: str
    is_machine: bool
    path: str
    """Path of emissions.csv; "" disables it."""
    replace_rows: bool
    handlers: tuple[Any, ...]
    price: ConversionOverrides
    remarks: tuple[str, ...]
    """Warnings about settings without effect and invalid settings."""
    has_place: bool
    interval_seconds: float
    """Interval of measurements, as seen by handlers."""
    live_every: int
    """Number of measurements between calls of `live_out`; 0 disables it."""
    log_level: int
    """Minimum level of logged messages, as in `logging`."""


def read_tracker_settings(
    names: tuple[str, ...],
    given: tuple[Any, ...],
    named: Mapping[str, Any],
    environment: Mapping[str, str],
) -> TrackerSettings:
    """Resolve settings from positional (`given`) and keyword (`named`) arguments.

    Arguments take precedence over the environment, and that over CodeCarbon's files in the working
    directory and the home directory. Raises TypeError for too many positional arguments.
    """
    if len(given) > len(names):
        raise TypeError(f"expected at most {len(names)} positional arguments, found {len(given)}")
    arguments = {**dict(zip(names, given, strict=False)), **named}
    settings = {**_read_configuration(environment), **arguments}
    remarks = [
        f"{name} has no effect here: {_unsupported_reason(name)}"
        for name, value in settings.items()
        if _is_unsupported(name)
        and not _is_off(value)
        and (name in arguments or (name in ARGUMENTS and name not in WRITTEN_BY_CONFIG))
    ]
    mode = settings.get("tracking_mode") or MODES[0]
    if mode not in MODES:
        remarks.append(f"tracking_mode {mode!r} is unknown; machine is used")
    price = _conversion_overrides(settings, remarks)
    methods = _methods(settings)
    remarks += [
        f"output_methods: {method} has no effect here: {_unsupported_reason(f'save_to_{method}')}"
        for method in sorted(methods.difference(METHODS))
    ]
    handlers = tuple(settings.get("output_handlers") or ())
    if "logger" in methods:
        logger = settings.get("logging_logger")
        if logger is None:
            remarks.append("save_to_logger has no effect without a logging_logger")
        else:
            handlers = (*handlers, logger)
    interval_seconds = _amount(settings, "measure_power_secs", remarks)
    directory = str(settings.get("output_dir") or ".")
    file = str(settings.get("output_file") or "emissions.csv")
    return TrackerSettings(
        project_name=str(settings.get("project_name") or "codecarbon"),
        experiment_id=str(settings.get("experiment_id") or ""),
        experiment_name=str(settings.get("experiment_name") or "base"),
        is_machine=mode != "process",
        path=os.path.abspath(os.path.join(directory, file)) if "csv" in methods else "",
        replace_rows=settings.get("on_csv_write") == "update",
        handlers=handlers,
        price=price,
        remarks=tuple(remarks),
        has_place=any(settings.get(name) for name in LOCATION_ARGUMENTS),
        interval_seconds=MEASURE_SECONDS if interval_seconds is None else interval_seconds,
        live_every=_live_every(settings.get("api_call_interval")),
        log_level=_level(settings.get("log_level")),
    )


def _is_unsupported(name: str) -> bool:
    return name not in SUPPORTED and name not in IGNORED_SILENTLY


def _unsupported_reason(name: str) -> str:
    if name in UNSUPPORTED_REASONS:
        return UNSUPPORTED_REASONS[name]
    return NOTHING_SENT if name in ARGUMENTS else "unknown argument"


def _read_configuration(environment: Mapping[str, str]) -> dict[str, Any]:
    parser = configparser.ConfigParser(interpolation=None)
    found: dict[str, Any] = {}
    for directory in (os.path.expanduser("~"), "."):
        try:
            parser.read(os.path.join(directory, FILE), encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
    if parser.has_section(SECTION):
        found.update(parser[SECTION])
    for name, value in environment.items():
        if name.lower().startswith(PREFIX):
            found[name.lower().removeprefix(PREFIX)] = value
    return found


def _methods(settings: Mapping[str, Any]) -> set[str]:
    """Return the output methods; `output_methods` takes precedence over `save_to_...`."""
    methods = settings.get("output_methods")
    if methods is not None:
        each = methods.split(",") if isinstance(methods, str) else methods
        names = {str(getattr(method, "value", method)).strip().lower() for method in each}
        return names - {""}
    flags = {"csv": ("save_to_file", True), "logger": ("save_to_logger", False)}
    return {
        method
        for method, (name, default) in flags.items()
        if not _is_off(settings.get(name, default))
    }


def _is_off(value: Any) -> bool:
    return str(value).strip().lower() in FALSE


def _live_every(value: Any) -> int:
    """Parse `api_call_interval`; -1 disables `live_out`, as in CodeCarbon."""
    try:
        return max(int(value), 0 if int(value) < 0 else 1)
    except (TypeError, ValueError, OverflowError):
        return MEASUREMENTS


def _level(value: Any) -> int:
    if isinstance(value, int):
        return value
    text = str(value).strip().upper()
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else LEVELS.get(text, LEVELS["INFO"])


def _conversion_overrides(settings: Mapping[str, Any], remarks: list[str]) -> ConversionOverrides:
    place = [str(settings.get(name) or "").strip() for name in LOCATION_ARGUMENTS]
    country, region, provider, cloud_region, two_letters = place
    country = country or two_letters
    zone = find_zone(country, region, provider, cloud_region)
    is_cloud = zone != "" and zone == find_zone("", "", provider, cloud_region)
    if not zone and any(place):
        remarks.append(
            f"location {' '.join(filter(None, place))!r} is in no table; the daemon's carbon "
            f"intensity is used; {_suggestion(place)}a location is a "
            "country_iso_code of three letters (DEU), with or without a region by name or code "
            "(USA and NY), or a cloud_provider and cloud_region (aws and eu-west-1)"
        )
    elif provider and not is_cloud:
        remarks.append(
            f"cloud region {provider}:{cloud_region} is in no table; {zone} is used instead"
        )
    if zone and region and not is_cloud and zone == find_zone(country):
        remarks.append(f"region {region!r} of {country} is in no table; {zone} is used instead")
    grams_per_kwh = _amount(settings, FORCED_INTENSITY, remarks)
    error = kg_per_kwh_error(grams_per_kwh or 0.0)
    if error:
        remarks.append(f"{FORCED_INTENSITY}: {error}; it is used as given")
    return ConversionOverrides(
        grams_per_kwh=grams_per_kwh,
        pue=_amount(settings, "pue", remarks),
        zone=zone or None,
        litres_per_kwh=_amount(settings, "wue", remarks) or 0.0,
    )


def _suggestion(place: Sequence[str]) -> str:
    """Return a question with similar locations; for a country alone, codes of three letters."""
    given = [text for text in place if text]
    if len(given) > 1 or given[0] not in (place[0], place[-1]):
        return suggestion(" ".join(given))
    name = given[0].upper()
    rows = [row for row in zones.all_rows() if row.table == zones.COUNTRIES]
    codes = {
        code: row.name.upper() for row in rows for code in row.codes if len(code) == len("DEU")
    }
    found = [code for code, country in codes.items() if country == name]
    found = found or difflib.get_close_matches(name, codes, MAX_SUGGESTIONS)
    return f"did you mean {' or '.join(found)}? " if found else ""


def _amount(settings: Mapping[str, Any], name: str, remarks: list[str]) -> float | None:
    value = settings.get(name)
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < float("inf"):
        remarks.append(f"{name} {value!r:.50} is not a valid amount and is ignored")
        return None
    return number


def resolve_overrides(
    record: Mapping[str, Any], wanted: ConversionOverrides
) -> ConversionOverrides:
    """Return the conversion overrides for a record.

    If the daemon's zone is the wanted place, or inside the wanted country, the daemon's intensity
    is more accurate than a yearly mean and is kept.
    """
    zone = wanted.zone
    if zone is None or wanted.grams_per_kwh is not None:
        return wanted
    if any(_is_within(each, zone) for each in quantities.zones_by_energy(record)[:1]):
        return wanted._replace(zone=None)
    try:
        factor = zones.find_factor(zone)
    except ConfigError:  # a place without a value in any table
        return wanted._replace(zone=None)
    return wanted._replace(grams_per_kwh=factor.grams_per_kwh)


def _is_within(zone: str, wanted: str) -> bool:
    if zone.upper() == wanted.upper():
        return True
    row = zones.find_row(wanted)
    is_country = row is not None and not locate_zone(wanted).region and ":" not in wanted
    return is_country and row is not None and locate_zone(zone).country == row.country
