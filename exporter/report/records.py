"""Records of runs from files, as `report --format json`, `run --output` and `track` write them."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from exporter.errors import ConfigError
from exporter.model.record import VERSION

LARGEST_CHARACTERS = 64 << 20


def read(path: str) -> list[dict[str, Any]]:
    """The records in a file: one, a list of them, or what the HTTP interface answers.

    Raises ConfigError naming the file, the record and what is wrong with it.
    """
    document = _document(path)
    if isinstance(document, dict) and isinstance(document.get("runs"), list):
        document = document["runs"]
    found = document if isinstance(document, list) else [document]
    return [checked(record, f"{path}: record {n}") for n, record in enumerate(found, 1)]


def checked(record: Any, where: str) -> dict[str, Any]:
    """A document that is a record, with what readers rely on. Raises ConfigError."""
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise ConfigError(f"{where}: is no record of a run, version {VERSION}")
    _expect(record, FIELDS, where)
    for part in record["parts"]:
        _expect(part, {"device": "a text", "energy_uj": "a number"}, f"{where}: parts")
    for use in record["intensity"]:
        _expect(use, {"energy_uj": "a number"}, f"{where}: intensity")
    _expect(record.get("boundary") or {}, {"grids": "a list, if any"}, f"{where}: boundary")
    return record


def _document(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(LARGEST_CHARACTERS + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not text") from None
    if len(text) > LARGEST_CHARACTERS:
        raise ConfigError(f"{path}: is larger than any record")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not JSON: {error}") from None


def _expect(fields: Mapping[str, Any], kinds: Mapping[str, str], where: str) -> None:
    for name, kind in kinds.items():
        if not HOLDS[kind](fields.get(name)):
            raise ConfigError(f"{where}: {name}: expected {kind}")


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


HOLDS: Mapping[str, Callable[[Any], bool]] = {
    "a number": _is_number,
    "a number, if any": lambda value: value is None or _is_number(value),
    "a text": lambda value: isinstance(value, str),
    "a list": _is_list,
    "a list, if any": lambda value: value is None or _is_list(value),
    "names with values, if any": lambda value: value is None or isinstance(value, dict),
}
FIELDS: Mapping[str, str] = {
    **dict.fromkeys(("energy_uj", "held_uj", "carbon_ng", "started", "at"), "a number"),
    "ended": "a number, if any",
    **dict.fromkeys(("run_id", "job_id", "node"), "a text"),
    **dict.fromkeys(("parts", "intensity"), "a list"),
    **dict.fromkeys(("units", "logged", "labels", "boundary"), "names with values, if any"),
}
