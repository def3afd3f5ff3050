"""Amounts of emissions as cards spell them: plain decimals, and what people wrote by hand."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from exporter import units

DIGITS = 6
GRAMS: Mapping[str, float] = {
    "mg": 1e-3,
    **dict.fromkeys(("g", "gram", "grams"), 1.0),
    **dict.fromkeys(("kg", "kilo", "kilos", "kilogram", "kilograms"), 1e3),
    **dict.fromkeys(("t", "ton", "tons", "tonne", "tonnes"), 1e6),
    **dict.fromkeys(("lb", "lbs", "pound", "pounds"), units.GRAMS_PER_KWH_OF_LB_PER_MWH * 1e3),
}
"""Units of mass, and the grams in one."""

NUMBER = r"\d[\d,_]*(?:\.\d+)?(?:[eE][-+]?\d+)?"
AMOUNT = re.compile(
    rf"(?<![\w.,])(?P<number>{NUMBER})\s*(?P<unit>{'|'.join(sorted(GRAMS, key=len, reverse=True))})"
    r"(?:\s*(?:of\s+)?CO(?:<sub>2</sub>e?q?|[^\s/]{0,6}))?(?!\w)(?!\s*(?:/|per\b))",
    re.IGNORECASE,
)
HUB_NUMBER = re.compile(r"\d+\.\d+|\d+")


def plain(carbon_ng: int) -> str:
    """Grams without an exponent, a unit or separators: six digits, or all before the point."""
    grams = Decimal(carbon_ng).scaleb(-9)
    places = max(0, DIGITS - 1 - grams.adjusted())
    text = f"{grams:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def number(text: str) -> float:
    """A number as people write it; a comma before other than three digits is a decimal point."""
    spelled = text.replace("_", "")
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?([eE].*)?", spelled):
        return float(spelled.replace(",", ""))
    return float(spelled.replace(",", ".") if spelled.count(",") == 1 else spelled.replace(",", ""))


def amounts(text: str) -> list[tuple[str, float]]:
    """Masses in a text, as they stand there and in grams. Rates, such as g/kWh, are none."""
    return [
        (match.group(), number(match["number"]) * GRAMS[match["unit"].lower()])
        for match in AMOUNT.finditer(text)
    ]


def hub_reading(value: Any) -> float | None:
    """What the Hub's threshold filter takes an emission for: the first digits of its text."""
    found = HUB_NUMBER.search(str(value)) if value else None
    return float(found.group()) if found else None
