"""The metadata at the head of a card: where they are, and what they say."""

import re
from typing import Any, NamedTuple

import yaml

from exporter.errors import ConfigError

KEY = "co2_eq_emissions"
EMISSIONS = "emissions"
BLOCK = re.compile(
    r"\A(\s*---(?:\r\n|\r|\n))([\S\s]*?)((?:\r\n|\r|\n|(?<=[\r\n]))---[ \t]*(?:\r\n|\n|\Z))"
)
"""As the Hub and its library see it; and an empty one, which they do not see."""
MARK = "\ufeff"
MOST_CHARACTERS = 32 << 20
"""With every alias spelled out; more is no card, but made to fill the memory."""


class Card(NamedTuple):
    """A card in its parts; joined they are the text."""

    opening: str
    block: str
    """YAML, without the line end before `closing`; "" for none."""
    closing: str
    body: str

    @property
    def first_line(self) -> int:
        """The number of the block's first line."""
        return len(self.opening.splitlines()) + 1


class Metadata(NamedTuple):
    """What a block says, and where."""

    values: dict[Any, Any]
    node: yaml.MappingNode | None
    """None where there is nothing."""

    def emissions(self) -> dict[Any, Any]:
        """The keys under `co2_eq_emissions`; the short form is its `emissions`."""
        value = self.values.get(KEY)
        return value if isinstance(value, dict) else {} if value is None else {EMISSIONS: value}


def split(text: str) -> Card:
    """The parts of a card. Raises ConfigError where the metadata have no end."""
    mark = MARK if text.startswith(MARK) else ""
    rest = text.removeprefix(MARK)
    found = BLOCK.search(rest)
    if found:
        return Card(mark + found[1], found[2], found[3], rest[found.end() :])
    if re.match(r"\s*---[ \t]*[\r\n]", rest):
        raise ConfigError("line 1: metadata begin with ---, and no line --- ends them")
    return Card(mark, "", "", rest)


def read(card: Card) -> Metadata:
    """The metadata. Raises ConfigError naming the line of the card that is wrong."""
    try:
        node = yaml.compose(card.block, Loader=yaml.SafeLoader)
        if _size(node, {}) > MOST_CHARACTERS:
            raise ConfigError(
                f"line {card.first_line}: aliases of the metadata hold too much, or themselves"
            )
        values = yaml.safe_load(card.block)
        repr(values)  # a number of too many digits for Python is found here
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = card.first_line + (mark.line if mark else 0)
        raise ConfigError(f"line {line}: metadata are not YAML: {error.problem}") from None
    except (LookupError, AttributeError):  # such as `!!bool maybe`
        raise ConfigError(
            f"line {card.first_line}: metadata are not YAML: a value is not what its tag says"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"line {card.first_line}: metadata are not YAML: {text}") from None
    if node is None or values is None:
        return Metadata({}, None)
    if not isinstance(node, yaml.MappingNode) or not isinstance(values, dict):
        raise ConfigError(f"line {card.first_line}: metadata are no names with values")
    same = [key for key, _ in node.value if key.value == KEY]
    if len(same) > 1:
        line = card.first_line + same[1].start_mark.line
        raise ConfigError(f"line {line}: {KEY} is there twice")
    return Metadata(values, node)


def _size(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Characters of all that it says, those of what stands inside itself without end."""
    if node is None:
        return 0
    if id(node) not in known:
        known[id(node)] = MOST_CHARACTERS  # as long as we are inside of it
        if isinstance(node, yaml.ScalarNode):
            inner = len(node.value)
        elif isinstance(node, yaml.MappingNode):
            inner = sum(_size(each, known) for pair in node.value for each in pair)
        else:
            inner = sum(_size(each, known) for each in node.value)
        known[id(node)] = 1 + inner
    return known[id(node)]


def entry(node: yaml.Node | None, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    """A key of a mapping and its value."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next(((name, value) for name, value in pairs if name.value == key), None)


def line_of(card: Card, metadata: Metadata, key: str = EMISSIONS) -> int:
    """The line of a key under `co2_eq_emissions`, else of that; the first where there is none."""
    found = entry(metadata.node, KEY)
    if found is None:
        return 1
    inner = entry(found[1], key) or found
    return card.first_line + int(inner[0].start_mark.line)
