"""Check of the configured paths: directory, file or socket, as each setting requires."""

import dataclasses
import os
import stat
import typing

from exporter.config import Config
from exporter.errors import ConfigError

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
                _check(f"{name}.{item.name}{f' (--{flag})' if flag else ''}", path, kind)


def _check(setting: str, path: str, kind: str) -> None:
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
