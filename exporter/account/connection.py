"""A connection to SQLite that takes any text and number, so that none stops a commit."""

import math
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

ESCAPED = "\N{REPLACEMENT CHARACTER}"
"""Begins a text that is stored with backslashes, since UTF-8 has no lone surrogates."""


class Connection(sqlite3.Connection):
    """Texts come back as they were; what is not a number comes back as 0."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.text_factory = loaded

    def execute(self, sql: str, values: Any = (), /) -> sqlite3.Cursor:
        """As that of sqlite3; `values` are a sequence, or a mapping for names in the text."""
        if isinstance(values, Mapping):
            return super().execute(sql, {name: stored(value) for name, value in values.items()})
        return super().execute(sql, [stored(value) for value in values])

    def executemany(self, sql: str, rows: Iterable[Any], /) -> sqlite3.Cursor:
        """As that of sqlite3; the rows are sequences."""
        return super().executemany(sql, [[stored(value) for value in row] for row in rows])


def stored(value: object) -> object:
    """What SQLite keeps for a value; it takes no lone surrogates, and makes NULL of NaN."""
    if isinstance(value, float):
        return 0.0 if math.isnan(value) else value
    if not isinstance(value, str) or value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        is_odd = True
    else:
        is_odd = value.startswith(ESCAPED)
    return ESCAPED + value.encode("unicode_escape").decode("ascii") if is_odd else value


def loaded(data: bytes) -> str:
    """The text again; where the file is damaged, as much of it as can be read."""
    text = data.decode("utf-8", "replace")
    if not text.startswith(ESCAPED):
        return text
    return text[1:].encode("ascii", "replace").decode("unicode_escape", "replace")
