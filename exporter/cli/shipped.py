"""Files that come with this version, and writing them for commands that install them."""

import os
import shutil
from collections.abc import Collection, Iterator, Mapping

import exporter.data
from exporter.errors import ConfigError


def shipped(name: str, source: str) -> Iterator[tuple[str, str]]:
    """Relative path and text of each file of a folder of the package, or of its clone.

    `name` is the folder under exporter/data, `source` where the repository keeps it; pyproject.toml
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
    made: Mapping[str, str],
    *,
    force: bool,
    replaceable: Collection[str] = (),
    executable: bool = False,
) -> None:
    """Write the files and print their paths.

    Raises ConfigError where a file cannot be written, and, unless `force` or it is `replaceable`,
    where one would be replaced by another text; then nothing is written.
    """
    differing = [
        path
        for path, text in made.items()
        if path not in replaceable and current(path) not in (None, text)
    ]
    if differing and not force:
        raise ConfigError(
            f"{directory}: nothing was written; {len(differing)} of the files there would "
            f"be replaced, first {differing[0]}; name another directory, or replace them with "
            "--force"
        )
    for path, text in made.items():
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _replace(path, text, executable=executable)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
        print(path)


def current(path: str) -> str | None:
    """The text of the file that is there; None where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _replace(path: str, text: str, *, executable: bool) -> None:
    """Put the file there in one step: Slurm may run a script in that moment."""
    path = os.path.realpath(path)  # a link stays one
    beside = f"{path}.{os.getpid()}.part"
    try:
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
        if os.path.exists(path):
            shutil.copymode(path, beside)
        if executable:
            os.chmod(beside, 0o755)  # noqa: S103  scripts are public
        os.replace(beside, path)
    except OSError:
        if os.path.exists(beside):
            os.unlink(beside)
        raise
