"""Random changes of inputs, of their bytes and, where they are JSON, of their values."""

import json
import random
import re
from collections.abc import Sequence

SEPARATOR = b"\n====\n"
"""Between the parts of an input with several files or messages."""
MAX_BYTES = 1 << 16

TOKENS = (
    *(b"0", b"-1", b"1e400", b"-1e309", b"1e308", b"9" * 400, b"9" * 5000, b"0x" + b"f" * 5000),
    *(b"NaN", b"nan", b"Infinity", b"-inf", b"null", b"true", b"[]", b"{}", b'""', b"[" * 1200),
    *(b"\0", b"\xff", b"\xed\xa0\x80", b'"\\ud800"', b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xd9\xa3"),
    *(b"\n", b"\r\n", b" ", b"\t", b":", b",", b";", b"=", b"%", b"%ff", b'"', b"'", b"\\", b"/"),
    *(b"&a ", b"*a", b"<<: *a\n", b"!!bool x", b"!!int x", b"!!float x", b"!!timestamp x", b"? "),
    *(b"2024-13-01", b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:59-23:59", SEPARATOR),
)
VALUES = (
    *(None, True, 0, -1, 1 << 62, 1 << 64, 10**400, 1e308, -1e308, float("nan"), float("inf")),
    *("", "\0", "\ud800", "9" * 400, "٣", "x" * 3000, "NaN", [], {}, [[]], [None], {"": None}),
)


def mutated(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Return one of the seeds with one or several changes."""
    data = rng.choice(seeds)
    if rng.random() < 0.5 and (changed := _json_parts(rng, data)) is not None:
        data = changed
        if rng.random() < 0.7:
            return data[:MAX_BYTES]
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = _changed_bytes(rng, data, seeds)
    return data[:MAX_BYTES]


def _changed_bytes(  # noqa: PLR0911  a return for each kind of change
    rng: random.Random, data: bytes, seeds: Sequence[bytes]
) -> bytes:
    start = rng.randint(0, len(data))
    end = min(len(data), start + rng.choice((0, 1, 1, 2, 4, 8, 16, 64)))
    match rng.randrange(8):
        case 0:
            return data[:start] + rng.randbytes(rng.randint(1, 4)) + data[end:]
        case 1:
            return data[:start] + data[end:]
        case 2:
            return data[:end] + data[start:]
        case 3:
            return data[:start]
        case 4:
            other = rng.choice(seeds)
            return data[:start] + other[rng.randint(0, len(other)) :]
        case 5 if words := list(re.finditer(rb"[\w.+-]+", data)):
            word = rng.choice(words)
            return data[: word.start()] + rng.choice(TOKENS) + data[word.end() :]
        case 6 if lines := data.splitlines(keepends=True):
            lines.insert(rng.randint(0, len(lines)), rng.choice(lines))
            del lines[rng.randrange(len(lines))]
            return b"".join(lines)
        case _:
            return data[:start] + rng.choice(TOKENS) + data[end:]


def _json_parts(rng: random.Random, data: bytes) -> bytes | None:
    """Return the input with one value changed in one of its JSON documents; None without one."""
    parts = data.split(SEPARATOR)
    number = rng.randrange(len(parts))
    try:
        document = json.loads(parts[number])
    except (ValueError, RecursionError):
        return None
    parts[number] = json.dumps(_changed_value(rng, document)).encode()
    return SEPARATOR.join(parts)


def _changed_value(rng: random.Random, value: object) -> object:
    """Return the document with one node replaced, removed or repeated."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return rng.choice(VALUES)
    if isinstance(value, dict):
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {name: each for name, each in value.items() if name != key}
        return {**value, key: _changed_value(rng, value[key])}
    index = rng.randrange(len(value))
    if rng.random() < 0.1:
        return value[:index] + value[index + 1 :]
    if rng.random() < 0.1:
        return [*value, value[index]]
    return [*value[:index], _changed_value(rng, value[index]), *value[index + 1 :]]
