"""Settings: their types, units and defaults, and the one loader.

Order of precedence: flag, then `EMISSIONS_EXPORTER_<SECTION>_<KEY>`, then file, then default.
The top-level keys of the file are the five verbs of the pipeline; a key that is not known is an
error. `docs/configuration.md` is made from this file.
"""

import dataclasses
import difflib
import os
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from exporter.client.sockets import default_socket
from exporter.errors import ConfigError

ENVIRONMENT_PREFIX = "EMISSIONS_EXPORTER_"
PORT = 10680
COLLECTORS = ("rapl", "cpu_estimate", "dram_estimate")
"""Names that `sample.collectors` knows."""


def key(
    default: Any,
    unit: str,
    text: str,
    *,
    flag: str = "",
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """A setting: default, unit ("" for none), what it does, its flag, and its bounds."""
    metadata = {"unit": unit, "text": text, "flag": flag, "least": least, "most": most}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def default_state_directory() -> str:
    """Where totals are kept: the system's place for root, the user's own for anyone else."""
    if os.geteuid() == 0:
        return "/var/lib/emissions-exporter"
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "emissions-exporter")


@dataclass(frozen=True)
class Sample:
    """Reading the hardware."""

    interval_seconds: float = key(
        1.0, "seconds", "Time between two looks.", flag="sample.interval", least=0.1, most=60
    )
    collectors: Mapping[str, bool] = key(
        {},
        "",
        "Collectors to switch off or on by name, for example `{rapl: false}`.",
        flag="collector",
    )
    sysfs: str = key("/sys", "path", "Where sysfs is mounted.", flag="path.sysfs")
    procfs: str = key("/proc", "path", "Where procfs is mounted.", flag="path.procfs")
    cpu_idle_watts_per_thread: float | None = key(
        None,
        "watts",
        "Idle power of one hardware thread, where no counter can be read. "
        "Empty: from the processor's model, or the cited pair for guests.",
        least=0,
    )
    cpu_full_watts_per_thread: float | None = key(
        None, "watts", "Power of one hardware thread at full load; see above.", least=0
    )
    dram_watts_per_gb: float | None = key(
        None,
        "watts per GB",
        "Power of memory where no counter can be read. Empty: the cited value.",
        least=0,
    )
    replay: str = key(
        "", "path", "Play this recorded or made-up host instead of reading the machine."
    )


@dataclass(frozen=True)
class Attribute:
    """Finding out whose energy it was."""

    max_runs: int = key(
        200, "runs", "Runs with series of their own; more are counted as `other`.", least=1
    )
    retain_ended_seconds: float = key(
        900, "seconds", "How long the series of an ended run stay on the page.", least=0
    )
    read_environments: bool = key(
        True, "", "Look for run and job ids in the environments of processes, where readable."
    )
    exported_labels: tuple[str, ...] = key(
        (), "", "Labels of runs that become `label_*` of `emissions_run_info`."
    )


@dataclass(frozen=True)
class Convert:
    """From energy to grams."""

    zone: str = key(
        "",
        "",
        "Where the machine is: a country (`DE`), a region (`US-CA`), a zone of Electricity Maps "
        "(`US-CAL-CISO`) or a cloud region (`aws:eu-west-1`). Empty: the world average is used, "
        "and said so.",
    )
    grams_per_kwh: float | None = key(
        None, "g/kWh", "A fixed intensity of your own; goes before every table.", least=0
    )
    basis: Literal["lifecycle", "direct", "unstated"] = key(
        "unstated", "", "What the numbers of `grams_per_kwh` and `file` count."
    )
    accounting: Literal["location", "market"] = key(
        "location", "", "Whether they follow the grid or your contracts."
    )
    source: str = key("", "", "Who says so; shown beside every gram that they made.")
    file: str = key(
        "",
        "path",
        "Intensities over time, CSV or JSON: each row holds from its time until the next.",
    )
    file_max_age_seconds: float = key(
        7200, "seconds", "How long the last row of the file holds.", least=0
    )
    pue: float = key(
        1.0,
        "ratio",
        "Power usage effectiveness: energy of the building over energy of the machines.",
        least=1,
        most=5,
    )


@dataclass(frozen=True)
class Account:
    """Keeping the totals."""

    state_directory: str = key(
        "",
        "path",
        "Where ledger and journal are kept. Empty: `/var/lib/emissions-exporter` for root, "
        "`$XDG_STATE_HOME/emissions-exporter` for anyone else.",
        flag="path.state",
    )
    commit_seconds: float = key(
        30, "seconds", "Time between two commits of the ledger.", least=1, most=3600
    )
    keep_minutes_days: float = key(
        35, "days", "How long usage is kept by the minute; then by the hour.", least=1
    )
    keep_hours_days: float = key(
        400, "days", "How long usage is kept by the hour; totals are kept for ever.", least=1
    )


@dataclass(frozen=True)
class Expose:
    """Showing the numbers."""

    listen_address: str = key(
        f":{PORT}", "host:port", "Where HTTP is served.", flag="web.listen-address"
    )
    socket: str = key(
        "",
        "path",
        "The agent socket, where runs are registered. Empty: "
        "`/run/emissions-exporter/agent.sock` for root, under `$XDG_RUNTIME_DIR` for anyone else.",
        flag="socket.path",
    )
    node: str = key(
        "", "", "Name of this machine in records and on the page. Empty: its host name."
    )
    max_connections: int = key(512, "connections", "Open at once; more are closed.", least=8)
    log_level: Literal["debug", "info", "warning", "error"] = key(
        "info", "", "Least severity that is logged.", flag="log.level"
    )
    log_format: Literal["logfmt", "json"] = key(
        "logfmt", "", "How log lines are written.", flag="log.format"
    )


@dataclass(frozen=True)
class Config:
    """All settings, one section per verb."""

    sample: Sample = field(default_factory=Sample)
    attribute: Attribute = field(default_factory=Attribute)
    convert: Convert = field(default_factory=Convert)
    account: Account = field(default_factory=Account)
    expose: Expose = field(default_factory=Expose)


def load(
    path: str | None,
    environment: Mapping[str, str],
    flags: Mapping[tuple[str, str], Any],
) -> Config:
    """The settings in force.

    `flags` maps (section, key) to the value that was given. Raises ConfigError.
    """
    document = _read(path) if path else {}
    where = path or "configuration"
    sections: dict[str, Any] = {}
    hints = typing.get_type_hints(Config)
    _refuse_unknown(document, hints, where, "")
    for name, section in hints.items():
        given = document.get(name)
        if given is None:
            given = {}
        if not isinstance(given, dict):
            raise ConfigError(f"{where}: {name}: expected keys with values, found {given!r}")
        sections[name] = _section(name, section, given, where, environment, flags)
    config = Config(**sections)
    _refuse_unknown(
        config.sample.collectors, dict.fromkeys(COLLECTORS), where, "sample.collectors."
    )
    return dataclasses.replace(
        config,
        account=_with_default(config.account, "state_directory", default_state_directory()),
        expose=_with_default(config.expose, "socket", default_socket()),
    )


def _with_default(section: Any, name: str, default: str) -> Any:
    return section if getattr(section, name) else dataclasses.replace(section, **{name: default})


def _read(path: str) -> dict[str, Any]:
    import yaml  # 14 ms that a daemon without a file need not spend

    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}; check --config.file"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {_one_line(error)}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected sections ({', '.join(_names(Config))})")
    return document


def _section(
    name: str,
    section: Any,
    given: dict[str, Any],
    where: str,
    environment: Mapping[str, str],
    flags: Mapping[tuple[str, str], Any],
) -> Any:
    hints = typing.get_type_hints(section)
    _refuse_unknown(given, hints, where, f"{name}.")
    values: dict[str, Any] = {}
    for item in dataclasses.fields(section):
        hint, meta = hints[item.name], item.metadata
        variable = f"{ENVIRONMENT_PREFIX}{name}_{item.name}".upper()
        if (name, item.name) in flags:
            source, value = f"--{meta['flag']}", flags[name, item.name]
            value = _from_text(value, hint, source) if isinstance(value, str) else value
        elif variable in environment:
            source, value = variable, _from_text(environment[variable], hint, variable)
        elif item.name in given:
            source, value = f"{where}: {name}.{item.name}", given[item.name]
        else:
            continue
        values[item.name] = _checked(value, hint, meta, source)
    return section(**values)


def _refuse_unknown(
    given: Mapping[Any, Any], known: Mapping[str, Any], where: str, at: str
) -> None:
    for name in given:
        if name in known:
            continue
        near = difflib.get_close_matches(str(name), known, 1)
        hint = f"did you mean {at}{near[0]}?" if near else f"known are: {', '.join(known)}"
        raise ConfigError(f"{where}: {at}{name}: there is no such key; {hint}")


def _from_text(text: str, hint: Any, source: str) -> Any:
    """The text of a flag or variable in the shape that YAML would have given it."""
    if hint is str or typing.get_origin(hint) is Literal:
        return text
    if typing.get_origin(hint) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: is not valid YAML: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _checked(value: Any, hint: Any, meta: Mapping[str, Any], source: str) -> Any:
    """`value` as the type that `hint` asks for. Raises ConfigError naming `source`."""
    if typing.get_origin(hint) is types.UnionType:
        if value is None:
            return None
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    if hint in (int, float):
        return _number(value, hint, meta, source)
    expected, good = _shape(value, hint)
    if not good:
        raise ConfigError(f"{source}: expected {expected}, found {value!r}")
    return tuple(str(part) for part in value) if typing.get_origin(hint) is tuple else value


def _shape(value: Any, hint: Any) -> tuple[str, bool]:
    """What `hint` expects, in words, and whether `value` is that."""
    if typing.get_origin(hint) is Literal:
        allowed = typing.get_args(hint)
        return f"one of {', '.join(allowed)}", value in allowed
    if typing.get_origin(hint) is tuple:
        return "a list", isinstance(value, list | tuple)
    if hint is bool:
        return "true or false", isinstance(value, bool)
    if hint is str:
        return "text (put it in quotes)", isinstance(value, str)
    switches = isinstance(value, Mapping) and all(isinstance(v, bool) for v in value.values())
    return "names with true or false", switches


def _number(value: Any, hint: Any, meta: Mapping[str, Any], source: str) -> float | int:
    unit = meta["unit"]
    whole = hint is int
    good = isinstance(value, int) or (isinstance(value, float) and not whole)
    if isinstance(value, bool) or not good or not abs(value) <= sys.float_info.max:
        kind = "a whole number" if whole else "a number"
        raise ConfigError(f"{source}: expected {kind} of {unit} without a unit, found {value!r}")
    if meta["least"] is not None and value < meta["least"]:
        raise ConfigError(f"{source}: {value} is below the least, {meta['least']} ({unit})")
    if meta["most"] is not None and value > meta["most"]:
        raise ConfigError(f"{source}: {value} is above the most, {meta['most']} ({unit})")
    return int(value) if whole else float(value)


def _names(section: Any) -> list[str]:
    return [item.name for item in dataclasses.fields(section)]
