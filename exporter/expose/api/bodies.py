"""What the bodies of requests to the agent socket ask for, checked and bounded at the door."""

import json
import math
from typing import Any

from exporter.errors import Refused
from exporter.model.commands import Log, Start

TEXT_BYTES = 1024
LABELS = 32
LABELS_BYTES = 2048
"""For the names and values of all labels together."""
NAMES = 64
"""Results, or units, that one body may bring."""
NODES = 1_000_000
LARGEST = 2.0**53
SCOPES = ("tree", "cgroup", "machine")
START_KEYS = ("run_id", "job_id", "name", "labels", "scope", "budget_grams", "nodes")
LOG_KEYS = ("job_id", "values", "count", "progress")


def parse_start(body: bytes) -> Start:
    """The run that a body asks for, without who asks. Raises Refused(400)."""
    document = checked_object(body, START_KEYS)
    scope = _text(document, "scope", "tree")
    if scope not in SCOPES:
        raise Refused(400, f"scope: expected {', '.join(SCOPES)}, found {scope!r}")
    return Start(
        uid=-1,
        user="",
        pid=0,
        run_id=_text(document, "run_id", ""),
        job_id=_text(document, "job_id", ""),
        name=_text(document, "name", ""),
        scope=scope,
        labels=checked_labels(document.get("labels", {})),
        budget_grams=_budget(document.get("budget_grams")),
        nodes=_nodes(document.get("nodes")),
    )


def parse_log(body: bytes) -> Log:
    """What a body says of a run, without which run and who says so. Raises Refused(400)."""
    document = checked_object(body, LOG_KEYS)
    done, total = _progress(document.get("progress"))
    return Log(
        uid=-1,
        run_id="",
        job_id=None if document.get("job_id") is None else _text(document, "job_id", ""),
        values=tuple(_value(*pair) for pair in _named(document, "values")),
        counts=tuple(_count(*pair) for pair in _named(document, "count")),
        done=done,
        total=total,
    )


def parse_end(body: bytes) -> str | None:
    """The job id that a body names, if any. Raises Refused(400)."""
    document = checked_object(body or b"{}", ("job_id",))
    return None if document.get("job_id") is None else _text(document, "job_id", "")


def checked_object(body: bytes, keys: tuple[str, ...]) -> dict[str, Any]:
    """The object that a body is, with no other keys. Raises Refused(400)."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise Refused(400, f"the body is not a JSON object with keys of {', '.join(keys)}")
    if unknown := [key for key in document if key not in keys]:
        raise Refused(
            400, f"{unknown[0]!r:.100}: there is no such key; known are {', '.join(keys)}"
        )
    return document


def _text(document: dict[str, Any], key: str, default: str) -> str:
    return checked_text(key, document.get(key, default))


def checked_text(what: str, value: Any) -> str:
    """A text that may go on, `what` says which in the refusal. Raises Refused(400)."""
    if not isinstance(value, str):
        raise Refused(400, f"{what}: expected a text, found {value!r:.100}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise Refused(400, f"{what}: is not valid Unicode; write it in UTF-8") from None
    if size > TEXT_BYTES:
        raise Refused(400, f"{what}: has {size} bytes, at most {TEXT_BYTES} are taken; shorten it")
    if "\0" in value:
        raise Refused(400, f"{what}: has a NUL character; leave it out")
    return value


def checked_labels(value: Any) -> tuple[tuple[str, str], ...]:
    """Labels that are not too many. Raises Refused(400)."""
    if not isinstance(value, dict):
        raise Refused(400, f"labels: expected an object of texts, found {value!r:.100}")
    if len(value) > LABELS:
        raise Refused(400, f"labels: there are {len(value)}; at most {LABELS} are taken")
    pairs = tuple(
        (checked_text("labels", key), checked_text(f"labels.{key:.100}", text))
        for key, text in value.items()
    )
    size = sum(len(text.encode()) for pair in pairs for text in pair)
    if size > LABELS_BYTES:
        raise Refused(400, f"labels: have {size} bytes in all; at most {LABELS_BYTES} are taken")
    return pairs


def _budget(value: Any) -> float | None:
    return None if value is None else checked_amount("budget_grams", value)


def _nodes(value: Any) -> int:
    if value is None:
        return 0
    if type(value) is not int or not 1 <= value <= NODES:
        raise Refused(400, f"nodes: expected a whole number from 1 to {NODES}, found {value!r:.50}")
    return value


def _named(document: dict[str, Any], key: str) -> list[tuple[str, Any]]:
    value = document.get(key, {})
    if not isinstance(value, dict):
        raise Refused(400, f"{key}: expected an object, found {value!r:.100}")
    if len(value) > NAMES:
        raise Refused(400, f"{key}: there are {len(value)}; at most {NAMES} are taken")
    return [(_name(key, name), item) for name, item in value.items()]


def _name(what: str, name: str) -> str:
    if not checked_text(what, name).strip():
        raise Refused(400, f"{what}: a name is empty; give it one")
    return name


def _value(name: str, value: Any) -> tuple[str, float | str]:
    if isinstance(value, str):
        return name, checked_text(f"values.{name:.100}", value)
    return name, _number(f"values.{name:.100}", value)


def _count(unit: str, amount: Any) -> tuple[str, float]:
    return unit, checked_amount(f"count.{unit:.100}", amount)


def _progress(value: Any) -> tuple[float | None, float]:
    if value is None:
        return None, 0.0
    if not isinstance(value, dict) or set(value) != {"done", "total"}:
        raise Refused(400, f"progress: expected an object of done and total, found {value!r:.100}")
    done = checked_amount("progress.done", value["done"])
    return done, checked_amount("progress.total", value["total"])


def checked_amount(what: str, value: Any) -> float:
    """A number from 0 up, small enough to be added to others exactly."""
    number = _number(what, value)
    if number > LARGEST:
        raise Refused(400, f"{what}: is too large a number")
    if number < 0:
        raise Refused(400, f"{what}: expected a number from 0 up, found {value!r:.100}")
    return number


def _number(what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(400, f"{what}: expected a number, found {value!r:.100}")
    try:
        number = float(value)
    except OverflowError:
        raise Refused(400, f"{what}: is too large a number") from None
    if not math.isfinite(number):
        raise Refused(400, f"{what}: expected a finite number, found {value!r:.100}")
    return number
