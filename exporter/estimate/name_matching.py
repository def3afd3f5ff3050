"""Names as people write them, matched with those of a table. Numbers in them are never guessed."""

import difflib
import re
from collections.abc import Collection, Iterable
from typing import TypeVar

T = TypeVar("T")
SIMILARITY_CUTOFF = 0.75
"""How alike a misspelt word is to the right one, by `difflib`."""
MAX_SUGGESTIONS = 5
MAX_NAME_LENGTH = 100
DECORATION_PATTERN = re.compile(r"\([^)]*\)|@.*|\d+-cores?\b")
"""Trademarks, clock rates and counts of cores, as processors tell them."""
SIZE = re.compile(r"(?:(\d+)/)?(\d+) ?gb\b")


def words(text: str) -> frozenset[str]:
    """Its words in lower case; a size of memory is one word."""
    plain = DECORATION_PATTERN.sub(" ", text[:MAX_NAME_LENGTH].casefold())
    sized = SIZE.sub(lambda found: " ".join(f" {size}gb " for size in found.groups("")), plain)
    return frozenset(re.findall(r"\w+", sized)) - {"gb"}


def corrected(asked: Collection[str], known: Iterable[str]) -> frozenset[str]:
    """The words with misspelt ones replaced by the most alike of the known.

    What has a digit in it stays: one number off is another thing.
    """
    spelled = {word for word in known if word.isalpha()}
    return frozenset(
        word
        if word in spelled or not word.isalpha()
        else next(
            iter(difflib.get_close_matches(word, sorted(spelled), 1, SIMILARITY_CUTOFF)), word
        )
        for word in asked
    )


def closest(text: str, names: Iterable[str]) -> list[str]:
    """Names that look like a text, the most alike first."""
    shown = {name.casefold(): name for name in names}
    found = difflib.get_close_matches(text[:MAX_NAME_LENGTH].casefold(), shown, MAX_SUGGESTIONS)
    return [shown[name] for name in found]


def with_all_words(asked: frozenset[str], rows: Iterable[tuple[frozenset[str], T]]) -> list[T]:
    """What has all the words, that with the fewest other words first; nothing has none."""
    found = [(len(own - asked), row) for own, row in rows if asked and asked <= own]
    return [row for _, row in sorted(found, key=lambda pair: pair[0])]


def joined_names(names: Collection[str]) -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - MAX_SUGGESTIONS
    return ", ".join(list(names)[:MAX_SUGGESTIONS]) + (f" and {more} more" if more > 0 else "")
