"""Bundled files, and writing them to a directory for the commands that install them."""

import os
import stat
from collections.abc import Collection, Iterator, Mapping

import exporter.data
from exporter.client.atomic_file import replace_file
from exporter.errors import ConfigError


def shipped(name: str, source: str) -> Iterator[tuple[str, str]]:
    """Yield relative path and text of each file in a folder of the package or of its checkout.

    `name` is the folder under exporter/data, `source` its path in the repository; pyproject.toml
    lists both.
    """
    package = os.path.dirname(exporter.data.__file__)
    clone = os.path.dirname(os.path.dirname(package))
    installed = os.path.join(package, name)
    top = installed if os.path.isdir(installed) else os.path.join(clone, source)
    for folder, folders, files in os.walk(top):
        folders.sort()
        for file in sorted(files):
            path = os.path.join(folder, file)
            with open(path, encoding="utf-8") as opened:
                yield os.path.relpath(path, top), opened.read()


def write(
    directory: str,
    files: Mapping[str, str],
    *,
    force: bool,
    replaceable: Collection[str] = (),
    executable: bool = False,
) -> None:
    """Write the files and print their paths.

    Raises ConfigError if a file cannot be written. Without `force`, also raises it, and writes
    nothing, if a file that is not `replaceable` has another content.
    """
    differing = [
        path
        for path, text in files.items()
        if path not in replaceable and current(path) not in (None, text)
    ]
    if differing and not force:
        raise ConfigError(
            f"{directory}: no file written: {len(differing)} existing files differ, first "
            f"{differing[0]}; give another directory, or replace them with --force"
        )
    for path, text in files.items():
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _replace(path, text, executable=executable)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
        print(path)


def current(path: str) -> str | None:
    """Return the text of the existing file; None if there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _replace(path: str, text: str, *, executable: bool) -> None:
    """Replace the file atomically: Slurm may start a script at any moment."""
    path = os.path.realpath(path)  # keep a symbolic link
    mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else None
    replace_file(path, text, 0o755 if executable else mode)
