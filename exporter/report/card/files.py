"""Cards as files."""

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from exporter.errors import ConfigError
from exporter.report.card.facts import NOTHING, Told
from exporter.report.card.merge import Merged, merged

LARGEST_CHARACTERS = 16 << 20


def read(path: str) -> str:
    """A card with its line ends as they are. Raises ConfigError where it cannot be read."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read(LARGEST_CHARACTERS + 1)
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not text in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(text) > LARGEST_CHARACTERS:
        raise ConfigError(f"{path}: is larger than any card")
    return text


def update(
    path: str, record: Mapping[str, Any], told: Told = NOTHING, *, is_asked: bool = True
) -> Merged:
    """Merge a record into the card at `path`, which is made where there is none; see `merged`.

    The file is replaced at once or left as it was. Raises ConfigError, naming it and its line.
    """
    text = read(path) if os.path.lexists(path) else ""
    try:
        made = merged(text, record, told, is_asked=is_asked)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if made.text != text:
        _replace(os.path.realpath(path), made.text)
    return made


def _replace(path: str, text: str) -> None:
    beside = f"{path}.{os.getpid()}.part"
    try:
        with open(beside, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        with suppress(FileNotFoundError):
            shutil.copymode(path, beside)
        os.replace(beside, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(beside)
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
