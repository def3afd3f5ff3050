"""YAML front matter of a model card: parsing, and editing without changing other content."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from exporter.errors import ConfigError
from exporter.report.card.facts import CardFact

EMISSIONS_KEY = "co2_eq_emissions"
EMISSIONS_FIELD = "emissions"
BLOCK = re.compile(
    r"\A(\s*---(?:\r\n|\r|\n))([\S\s]*?)((?:\r\n|\r|\n|(?<=[\r\n]))---[ \t]*(?:\r\n|\n|\Z))"
)
"""Front matter as recognized by the Hub and its library, and empty front matter."""
BYTE_ORDER_MARK = "\ufeff"
MAX_EXPANDED_CHARACTERS = 32 << 20
"""Limit of the size with expanded aliases, against files made to exhaust memory."""


class ModelCard(NamedTuple):
    """Parts of a card; concatenated they are the text."""

    opening: str
    block: str
    """YAML, without the line end before `closing`; "" for none."""
    closing: str
    body: str

    @property
    def first_line(self) -> int:
        """Line number of the block's first line."""
        return len(self.opening.splitlines()) + 1


class CardMetadata(NamedTuple):
    """Values of the block, and their YAML nodes with positions."""

    values: dict[Any, Any]
    node: yaml.MappingNode | None
    """None if the block is empty."""

    def emissions(self) -> dict[Any, Any]:
        """Return the keys under `co2_eq_emissions`; a plain value is its `emissions`."""
        value = self.values.get(EMISSIONS_KEY)
        return (
            value if isinstance(value, dict) else {} if value is None else {EMISSIONS_FIELD: value}
        )


def split_card(text: str) -> ModelCard:
    """Split a card into its parts. Raises ConfigError if the metadata have no end."""
    mark = BYTE_ORDER_MARK if text.startswith(BYTE_ORDER_MARK) else ""
    rest = text.removeprefix(BYTE_ORDER_MARK)
    found = BLOCK.search(rest)
    if found:
        return ModelCard(mark + found[1], found[2], found[3], rest[found.end() :])
    if re.match(r"\s*---[ \t]*[\r\n]", rest):
        raise ConfigError("line 1: metadata begin with ---, but no line --- ends them")
    return ModelCard(mark, "", "", rest)


def parse_metadata(card: ModelCard) -> CardMetadata:
    """Parse the metadata. Raises ConfigError with the line of the error."""
    try:
        node = yaml.compose(card.block, Loader=yaml.SafeLoader)
        if _expanded_size(node, {}) > MAX_EXPANDED_CHARACTERS:
            raise ConfigError(
                f"line {card.first_line}: aliases in the metadata are recursive or too large"
            )
        values = yaml.safe_load(card.block)
        repr(values)  # a number of too many digits for Python is found here
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = card.first_line + (mark.line if mark else 0)
        raise ConfigError(f"line {line}: metadata are not YAML: {error.problem}") from None
    except (LookupError, AttributeError):  # such as `!!bool maybe`
        raise ConfigError(
            f"line {card.first_line}: metadata are not YAML: a value does not match its tag"
        ) from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"line {card.first_line}: metadata are not YAML: {text}") from None
    if node is None or values is None:
        return CardMetadata({}, None)
    if not isinstance(node, yaml.MappingNode) or not isinstance(values, dict):
        raise ConfigError(f"line {card.first_line}: metadata are not a mapping")
    same = [key for key, _ in node.value if key.value == EMISSIONS_KEY]
    if len(same) > 1:
        line = card.first_line + same[1].start_mark.line
        raise ConfigError(f"line {line}: {EMISSIONS_KEY} is defined twice")
    return CardMetadata(values, node)


def _expanded_size(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Characters of all that it says, those of what stands inside itself without end."""
    if node is None:
        return 0
    if id(node) not in known:
        known[id(node)] = MAX_EXPANDED_CHARACTERS  # as long as we are inside of it
        if isinstance(node, yaml.ScalarNode):
            inner = len(node.value)
        elif isinstance(node, yaml.MappingNode):
            inner = sum(_expanded_size(each, known) for pair in node.value for each in pair)
        else:
            inner = sum(_expanded_size(each, known) for each in node.value)
        known[id(node)] = 1 + inner
    return known[id(node)]


def find_entry(node: yaml.Node | None, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    """Return the nodes of a key and its value in a mapping."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next(((name, value) for name, value in pairs if name.value == key), None)


def line_of(card: ModelCard, metadata: CardMetadata, key: str = EMISSIONS_FIELD) -> int:
    """Return the line of a key under `co2_eq_emissions`, else of that key, else 1."""
    found = find_entry(metadata.node, EMISSIONS_KEY)
    if found is None:
        return 1
    inner = find_entry(found[1], key) or found
    return card.first_line + int(inner[0].start_mark.line)


class TextEdit(NamedTuple):
    """Replacement of the block's text from `start` to `end`."""

    start: int
    end: int
    text: str


def updated_block(card: ModelCard, facts: Mapping[str, CardFact], line_end: str) -> str:
    """Return the block with the facts under `co2_eq_emissions`.

    Derived facts do not replace stated ones. Raises ConfigError if the block is not YAML, or if
    other content would change.
    """
    metadata = parse_metadata(card)
    there = metadata.emissions()
    wanted = {
        name: fact.text if name == EMISSIONS_FIELD else json.dumps(fact.text, ensure_ascii=False)
        for name, fact in facts.items()
        if fact.may_replace(there.get(name))
    }
    block = card.block
    changes = sorted(_edits(block, metadata, wanted, line_end), key=lambda each: each.start)
    for change in reversed(changes):
        block = block[: change.start] + change.text + block[change.end :]
    _verify_unchanged(card, metadata, block, {**there, **yaml.safe_load(_flow_mapping(wanted))})
    return block


def _edits(
    block: str, metadata: CardMetadata, wanted: Mapping[str, str], line_end: str
) -> Iterator[TextEdit]:
    top, found = metadata.node, find_entry(metadata.node, EMISSIONS_KEY)
    if found is None:
        if top is not None and top.flow_style:
            yield _insert_rows(block, top, [f"{EMISSIONS_KEY}: {_flow_mapping(wanted)}"], line_end)
        else:
            lines = [f"{EMISSIONS_KEY}:", *(f"  {row}" for row in _yaml_lines(wanted))]
            yield _insert_rows(block, top, lines, line_end)
        return
    key, value = found
    if isinstance(value, yaml.MappingNode):
        yield from _edit_mapping(block, value, wanted, line_end)
    elif isinstance(value, yaml.ScalarNode) and top is not None and top.flow_style:
        yield TextEdit(value.start_mark.index, value.end_mark.index, _flow_mapping(wanted))
    elif isinstance(value, yaml.ScalarNode):
        yield TextEdit(value.start_mark.index, value.end_mark.index, "")
        indent = " " * (key.start_mark.column + 2)
        at = _line_end_index(block, value.end_mark.index)
        yield TextEdit(at, at, "".join(f"{line_end}{indent}{row}" for row in _yaml_lines(wanted)))


def _edit_mapping(
    block: str, node: yaml.MappingNode, wanted: Mapping[str, str], line_end: str
) -> Iterator[TextEdit]:
    """Replace existing values, and append the others after the last."""
    missing = {}
    for name, text in wanted.items():
        found = find_entry(node, name)
        if found is None:
            missing[name] = text
        else:
            start, end = found[1].start_mark.index, found[1].end_mark.index
            space = " " if block[start - 1 : start] == ":" else ""
            tail = line_end if block[start:end].endswith(("\n", "\r")) else ""
            yield TextEdit(start, end, space + text + tail)
    if missing:
        yield _insert_rows(block, node, _yaml_lines(missing), line_end)


def _insert_rows(
    block: str, node: yaml.MappingNode | None, rows: list[str], line_end: str
) -> TextEdit:
    """Append entries to a mapping; None is an empty block."""
    if node is None:
        start = block if not block or block.endswith(("\n", "\r")) else block + line_end
        return TextEdit(0, len(block), start + line_end.join(rows))
    if node.flow_style:
        at = node.end_mark.index - 1
        before = block[:at].rstrip()
        comma = "" if before.endswith((",", "{")) else ", "
        return TextEdit(at, at, comma + ", ".join(rows))
    indent = " " * node.value[0][0].start_mark.column
    lines = [indent + row for row in rows]
    last = _last_node(node)
    if isinstance(last, yaml.ScalarNode) and last.style in ("|", ">"):
        first = node.value[0][0].start_mark  # how such a text ends depends on what follows it
        at = first.index - first.column
        return TextEdit(at, at, "".join(line + line_end for line in lines))
    at = _line_end_index(block, last.end_mark.index)
    return TextEdit(at, at, "".join(line_end + line for line in lines))


def _yaml_lines(wanted: Mapping[str, str]) -> list[str]:
    return [f"{name}: {text}" for name, text in wanted.items()]


def _flow_mapping(wanted: Mapping[str, str]) -> str:
    return "{" + ", ".join(_yaml_lines(wanted)) + "}"


def _last_node(node: yaml.Node) -> Any:
    """Return the last value in a node; the node's own end is after trailing comments."""
    last: Any = node
    while isinstance(last, yaml.CollectionNode) and not last.flow_style and last.value:
        last = last.value[-1]
        last = last[1] if isinstance(last, tuple) else last
    return last


def _line_end_index(block: str, at: int) -> int:
    """Return the index of the end of the line, before the line break."""
    stops = [stop for end in "\r\n" if (stop := block.find(end, at)) >= 0]
    return min(stops, default=len(block))


def _verify_unchanged(
    card: ModelCard, before: CardMetadata, block: str, emissions: Mapping[Any, Any]
) -> None:
    """Raise ConfigError if other content changed."""
    try:
        after = parse_metadata(card._replace(block=block))
    except ConfigError:
        after = CardMetadata({}, None)
    rest = [
        [item for item in each.values.items() if item[0] != EMISSIONS_KEY]
        for each in (before, after)
    ]
    if repr(rest[0]) != repr(rest[1]) or after.emissions() != dict(emissions):
        raise ConfigError(
            f"line {line_of(card, before, EMISSIONS_KEY)}: {EMISSIONS_KEY} cannot be changed "
            "without changing other content; write it as a mapping with one key per line"
        )
