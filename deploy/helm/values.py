"""The values of the chart, with the texts that describe them."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

LINE = re.compile(r"( *)([A-Za-z]\w*):")
MARK = "# -- "


class Value(NamedTuple):
    """One value: its path with dots, its default, and what it is for."""

    path: str
    default: Any
    text: str


def values(text: str) -> list[Value]:
    """Those in `text`, a values.yaml. Raises ValueError for one that is not described."""
    document = yaml.safe_load(text)
    described = dict(_described(text))
    found = [Value(path, _at(document, path), said) for path, said in described.items()]
    missing = [path for path in _leaves(document, "") if not _covered(path, described)]
    if missing:
        raise ValueError(f"values.yaml does not describe {', '.join(missing)}")
    return found


def _described(text: str) -> Iterator[tuple[str, str]]:
    """The path of each value that has a text above it, and that text on one line."""
    path: list[tuple[int, str]] = []
    said: list[str] = []
    for line in text.splitlines():
        comment = line.strip()
        if comment.startswith(MARK):
            said = [comment.removeprefix(MARK)]
        elif comment.startswith("# ") and said:
            said.append(comment.removeprefix("# "))
        elif found := LINE.match(line):
            indent = len(found[1])
            path = [(depth, name) for depth, name in path if depth < indent]
            path.append((indent, found[2]))
            if said:
                yield ".".join(name for _, name in path), " ".join(said)
            said = []


def _leaves(document: Any, at: str) -> Iterator[str]:
    if not isinstance(document, dict) or not document:
        yield at
        return
    for name, value in document.items():
        yield from _leaves(value, f"{at}.{name}" if at else name)


def _covered(path: str, described: dict[str, str]) -> bool:
    parts = path.split(".")
    return any(".".join(parts[:end]) in described for end in range(1, len(parts) + 1))


def _at(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document[name]
    return document
