"""A record as a model card of the Hugging Face Hub: metadata in grams, and a section to read."""

from collections.abc import Mapping
from typing import Any

from exporter.report.card import section
from exporter.report.card.facts import facts_of_section, has_emissions
from exporter.report.card.merge import merged


def write(record: Mapping[str, Any]) -> str:
    """A card that says nothing else; without metadata as long as no emissions are known."""
    if not has_emissions(record):
        return section.merged("", facts_of_section(record), "\n").rstrip("\n")
    return merged("", record).text.rstrip("\n")
