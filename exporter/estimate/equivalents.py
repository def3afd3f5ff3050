"""Grams as things that people know."""

from fractions import Fraction
from typing import NamedTuple

GRAMS_PER_POUND = Fraction("453.59237")
KM_PER_MILE = Fraction("1.609344")
SOURCE = "US EPA, greenhouse gas equivalencies, 2020"


class Equivalent(NamedTuple):
    """One thing that has the same emissions, or binds them."""

    key: str
    text: str
    """What comes after the amount."""
    grams: Fraction
    """For one of it."""
    source: str
    """With its year."""


EQUIVALENTS = (
    Equivalent(
        "car_km",
        "km driven by an average passenger vehicle",
        398 / KM_PER_MILE,
        f"{SOURCE}: 398 g per mile",
    ),
    Equivalent(
        "coal_kg",
        "kg of coal burned",
        905 / GRAMS_PER_POUND * 1_000,
        f"{SOURCE}: 905 g per pound",
    ),
    Equivalent(
        "tree_seedlings",
        "tree seedlings grown for ten years bind as much",
        Fraction(60_000),
        f"{SOURCE}: 60 kg each",
    ),
)
