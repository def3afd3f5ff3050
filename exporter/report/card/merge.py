"""A record merged into a model card, losing nothing that others wrote."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from exporter.errors import ConfigError
from exporter.report.card import editing, section
from exporter.report.card.amounts import plain
from exporter.report.card.facts import (
    NOTHING,
    OURS,
    Told,
    facts_of_metadata,
    facts_of_section,
    has_emissions,
)
from exporter.report.card.front_matter import EMISSIONS, Card, line_of, read, split


class Merged(NamedTuple):
    """A card, and the emissions that stood there before, if they were others."""

    text: str
    before: str


def merged(
    text: str, record: Mapping[str, Any], told: Told = NOTHING, *, is_asked: bool = True
) -> Merged:
    """The card with the record's emissions; "" gives a new one.

    Raises ConfigError where the card is malformed, naming its line; where the record has no
    emissions, which would only hide those that stand there; and where those are of another source
    and nobody asked to replace them.
    """
    if not has_emissions(record):
        raise ConfigError(
            "the run has no emissions yet: nothing was measured, or energy waits for an intensity"
        )
    card = split(text)
    line_end = "\r\n" if "\r\n" in text else "\n"
    metadata = read(card)
    there = metadata.emissions()
    before = there.get(EMISSIONS)
    if not is_asked and before and not str(there.get("source", "")).startswith(OURS):
        raise ConfigError(
            f"line {line_of(card, metadata)}: emissions of another source are kept; to replace "
            "them: emissions-exporter card write"
        )
    block = editing.changed(card, facts_of_metadata(record, told), line_end)
    body = section.merged(card.body, facts_of_section(record, told), line_end)
    said = "" if before is None or str(before) == plain(record["carbon_ng"]) else str(before)
    return Merged(_joined(card, block, body, line_end), said)


def _joined(card: Card, block: str, body: str, line_end: str) -> str:
    if card.closing:
        closing = card.closing if card.closing[0] in "\r\n" else line_end + card.closing
        return card.opening + block + closing + body
    gap = "" if body.startswith(("\n", "\r")) else line_end
    return f"{card.opening}---{line_end}{block}{line_end}---{line_end}{gap}{body}"
