"""The emissions written into the YAML of a card: each change is a piece of text, and no more."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from exporter.errors import ConfigError
from exporter.report.card.facts import Fact
from exporter.report.card.front_matter import EMISSIONS, KEY, Card, Metadata, entry, line_of, read


class Change(NamedTuple):
    """Text that takes the place of what is from `start` to `end` of the block."""

    start: int
    end: int
    text: str


def changed(card: Card, facts: Mapping[str, Fact], line_end: str) -> str:
    """The block with the facts under `co2_eq_emissions`.

    What was only derived gives way to what a person wrote. Raises ConfigError
    where the block is no YAML, or where anything else would change.
    """
    metadata = read(card)
    there = metadata.emissions()
    wanted = {
        name: fact.text if name == EMISSIONS else json.dumps(fact.text, ensure_ascii=False)
        for name, fact in facts.items()
        if fact.replaces(there.get(name))
    }
    block = card.block
    changes = sorted(_changes(block, metadata, wanted, line_end), key=lambda each: each.start)
    for change in reversed(changes):
        block = block[: change.start] + change.text + block[change.end :]
    _verify(card, metadata, block, {**there, **yaml.safe_load(_braces(wanted))})
    return block


def _changes(
    block: str, metadata: Metadata, wanted: Mapping[str, str], line_end: str
) -> Iterator[Change]:
    top, found = metadata.node, entry(metadata.node, KEY)
    if found is None:
        if top is not None and top.flow_style:
            yield _inserted(block, top, [f"{KEY}: {_braces(wanted)}"], line_end)
        else:
            lines = [f"{KEY}:", *(f"  {row}" for row in _rows(wanted))]
            yield _inserted(block, top, lines, line_end)
        return
    key, value = found
    if isinstance(value, yaml.MappingNode):
        yield from _inside(block, value, wanted, line_end)
    elif isinstance(value, yaml.ScalarNode) and top is not None and top.flow_style:
        yield Change(value.start_mark.index, value.end_mark.index, _braces(wanted))
    elif isinstance(value, yaml.ScalarNode):
        yield Change(value.start_mark.index, value.end_mark.index, "")
        indent = " " * (key.start_mark.column + 2)
        at = _line_stop(block, value.end_mark.index)
        yield Change(at, at, "".join(f"{line_end}{indent}{row}" for row in _rows(wanted)))


def _inside(
    block: str, node: yaml.MappingNode, wanted: Mapping[str, str], line_end: str
) -> Iterator[Change]:
    """Values that are there are replaced, the others go behind the last."""
    missing = {}
    for name, text in wanted.items():
        found = entry(node, name)
        if found is None:
            missing[name] = text
        else:
            start, end = found[1].start_mark.index, found[1].end_mark.index
            space = " " if block[start - 1 : start] == ":" else ""
            tail = line_end if block[start:end].endswith(("\n", "\r")) else ""
            yield Change(start, end, space + text + tail)
    if missing:
        yield _inserted(block, node, _rows(missing), line_end)


def _inserted(block: str, node: yaml.MappingNode | None, rows: list[str], line_end: str) -> Change:
    """More entries behind the last of a mapping; None: of a block that says nothing."""
    if node is None:
        start = block if not block or block.endswith(("\n", "\r")) else block + line_end
        return Change(0, len(block), start + line_end.join(rows))
    if node.flow_style:
        at = node.end_mark.index - 1
        before = block[:at].rstrip()
        comma = "" if before.endswith((",", "{")) else ", "
        return Change(at, at, comma + ", ".join(rows))
    indent = " " * node.value[0][0].start_mark.column
    lines = [indent + row for row in rows]
    last = _last(node)
    if isinstance(last, yaml.ScalarNode) and last.style in ("|", ">"):
        first = node.value[0][0].start_mark  # how such a text ends depends on what follows it
        at = first.index - first.column
        return Change(at, at, "".join(line + line_end for line in lines))
    at = _line_stop(block, last.end_mark.index)
    return Change(at, at, "".join(line_end + line for line in lines))


def _rows(wanted: Mapping[str, str]) -> list[str]:
    return [f"{name}: {text}" for name, text in wanted.items()]


def _braces(wanted: Mapping[str, str]) -> str:
    return "{" + ", ".join(_rows(wanted)) + "}"


def _last(node: yaml.Node) -> Any:
    """The last thing that a node says; the end of the node itself is behind comments after it."""
    last: Any = node
    while isinstance(last, yaml.CollectionNode) and not last.flow_style and last.value:
        last = last.value[-1]
        last = last[1] if isinstance(last, tuple) else last
    return last


def _line_stop(block: str, at: int) -> int:
    """The end of the line, without what ends it."""
    stops = [stop for end in "\r\n" if (stop := block.find(end, at)) >= 0]
    return min(stops, default=len(block))


def _verify(card: Card, before: Metadata, block: str, emissions: Mapping[Any, Any]) -> None:
    """Whether the rest is what it was. Raises ConfigError."""
    try:
        after = read(card._replace(block=block))
    except ConfigError:
        after = Metadata({}, None)
    rest = [[item for item in each.values.items() if item[0] != KEY] for each in (before, after)]
    if repr(rest[0]) != repr(rest[1]) or after.emissions() != dict(emissions):
        raise ConfigError(
            f"line {line_of(card, before, KEY)}: {KEY} cannot be changed without changing more; "
            "write it as names with values, one a line"
        )
