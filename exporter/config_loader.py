"""Loads and checks the settings. Order of precedence: flag, variable, file, default."""

import dataclasses
import difflib
import os
import stat
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from exporter.client.sockets import default_socket
from exporter.config import Config, default_state_directory
from exporter.errors import ConfigError
from exporter.sample.registry import COLLECTOR_NAMES
from exporter.setting import check_known_keys, read_yaml, validated, variable


class Overridden(NamedTuple):
    """A setting of the file that a flag or variable overrides with another value."""

    setting: str
    by: str
    """The overriding flag or variable."""


def load_config(
    path: str | None,
    environment: Mapping[str, str],
    flags: Mapping[tuple[str, str], Any],
    overridden: list[Overridden] | None = None,
) -> Config:
    """Return the effective settings.

    `path` is the settings file, `flags` maps (section, key) to the value of a flag. Relative paths
    in the file are relative to its directory. Overridden settings of the file are appended to
    `overridden`. Raises ConfigError.
    """
    document = _read(path) if path else {}
    where = path or "configuration"
    sections: dict[str, Any] = {}
    hints = typing.get_type_hints(Config)
    check_known_keys(document, hints, where, "")
    _check_known_variables(environment, hints)
    for name, section in hints.items():
        given = document.get(name)
        if given is None:
            given = {}
        if not isinstance(given, dict):
            raise ConfigError(f"{where}: {name}: expected keys with values, found {given!r}")
        sections[name] = _section(
            name,
            section,
            given,
            where,
            environment,
            flags,
            [] if overridden is None else overridden,
        )
    config = Config(**sections)
    check_known_keys(
        config.sample.collectors, dict.fromkeys(COLLECTOR_NAMES), where, "sample.collectors."
    )
    return dataclasses.replace(
        config,
        account=_with_default(config.account, "state_directory", default_state_directory()),
        expose=_with_default(config.expose, "socket", default_socket()),
    )


def is_given(path: str, name: str) -> bool:
    """Return whether the settings file at `path` has the key `section.key`. Raises ConfigError."""
    section, _, item = name.partition(".")
    given = _read(path).get(section)
    return isinstance(given, dict) and item in given


def _with_default(section: Any, name: str, default: str) -> Any:
    return section if getattr(section, name) else dataclasses.replace(section, **{name: default})


def _read(path: str) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}; check --config.file"
        ) from None
    except ValueError:
        raise ConfigError(f"{path}: is not valid YAML: it is not UTF-8 text") from None
    document = read_yaml(text, path)
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
    overridden: list[Overridden],
) -> Any:
    hints = typing.get_type_hints(section)
    check_known_keys(given, hints, where, f"{name}.")
    values: dict[str, Any] = {}
    for item in dataclasses.fields(section):
        hint, meta = hints[item.name], item.metadata
        name_in_environment = variable(f"{name}.{item.name}")
        if (name, item.name) in flags:
            source, value = f"--{meta['flag']}", flags[name, item.name]
            value = _from_text(value, hint, source) if isinstance(value, str) else value
        elif name_in_environment in environment:
            source = name_in_environment
            value = _from_text(environment[source], hint, source)
        elif item.name in given:
            values[item.name] = _of_file(given[item.name], hint, meta, where, f"{name}.{item.name}")
            continue
        else:
            continue
        values[item.name] = validated(value, hint, meta, source)
        if item.name in given:
            try:
                unused = _of_file(given[item.name], hint, meta, where, item.name)
            except ConfigError:
                unused = None
            if unused != values[item.name]:
                overridden.append(Overridden(f"{name}.{item.name}", source))
    return section(**values)


def _of_file(value: Any, hint: Any, meta: Mapping[str, Any], path: str, setting: str) -> Any:
    """Validate a value of the settings file at `path`; resolve relative paths against it."""
    directory = os.path.dirname(os.path.abspath(path))
    value = validated(value, hint, meta, f"{path}: {setting}")
    if meta["unit"] == "path":
        return os.path.join(directory, value) if value else value
    if typing.get_args(hint) == (Any, ...):  # intensity sources with options
        return tuple(_source_of_file(source, directory) for source in value)
    return value


def _source_of_file(source: Any, directory: str) -> Any:
    """Resolve the relative paths in the options of an intensity source against `directory`."""
    if not isinstance(source, dict):
        return source
    return {
        name: {
            key: os.path.join(directory, option)
            if isinstance(option, str) and option and (key == "path" or str(key).endswith("_file"))
            else option
            for key, option in options.items()
        }
        if isinstance(options, dict)
        else options
        for name, options in source.items()
    }


def _check_known_variables(environment: Mapping[str, str], sections: Mapping[str, Any]) -> None:
    """Raise ConfigError for an unknown variable whose name begins with that of a section.

    Other variables with the prefix are ignored: Kubernetes sets `EMISSIONS_EXPORTER_PORT` for a
    Service of that name.
    """
    known = {
        variable(f"{name}.{item.name}")
        for name, section in sections.items()
        for item in dataclasses.fields(section)
    }
    prefixes = tuple(variable(f"{name}.") for name in sections)
    for name in environment:
        if name.startswith(prefixes) and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{name}: there is no such setting{hint}")


def _from_text(text: str, hint: Any, source: str) -> Any:
    """Parse the text of a flag or variable into the type that YAML would yield."""
    if hint is str or typing.get_origin(hint) is Literal:
        return text
    is_yaml = text.lstrip().startswith("[") and str not in typing.get_args(hint)
    if typing.get_origin(hint) is tuple and not is_yaml:
        return [part.strip() for part in text.split(",") if part.strip()]
    return read_yaml(text, source)


def _names(section: Any) -> list[str]:
    return [item.name for item in dataclasses.fields(section)]


IS_KIND = {"directory": stat.S_ISDIR, "socket": stat.S_ISSOCK}


def check_paths(config: Config) -> None:
    """Raise ConfigError if something of another kind than its setting requires is at a path.

    A path that does not exist is left to the component that uses it.
    """
    for name, section in typing.get_type_hints(Config).items():
        for item in dataclasses.fields(section):
            kind = item.metadata["place"]
            path = getattr(getattr(config, name), item.name)
            if kind and path:
                flag = item.metadata["flag"]
                _check_path(f"{name}.{item.name}{f' (--{flag})' if flag else ''}", path, kind)


def _check_path(setting: str, path: str, kind: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except NotADirectoryError:
        raise ConfigError(
            f"{setting}: {path}: {_file_above(path)} is a file, and a directory is required there; "
            "choose another path, or move the file away"
        ) from None
    except (OSError, ValueError):
        return
    # A "file" may also be a pipe, such as that of a shell's <(...).
    if IS_KIND[kind](mode) if kind in IS_KIND else not stat.S_ISDIR(mode):
        return
    found = "a directory" if stat.S_ISDIR(mode) else "a file"
    raise ConfigError(
        f"{setting}: {path} is {found}, and a {kind} is required; choose another path, or move the "
        f"{found.removeprefix('a ')} away"
    )


def _file_above(path: str) -> str:
    """Return the nearest parent of a path that exists."""
    above = os.path.dirname(path.rstrip("/"))
    while above and not os.path.lexists(above):
        above = os.path.dirname(above)
    return above
