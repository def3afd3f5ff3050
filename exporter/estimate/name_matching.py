"""Matches names as people write them with names of a table. Numbers are never corrected."""

import difflib
import re
from collections.abc import Collection, Iterable
from typing import TypeVar

T = TypeVar("T")
SIMILARITY_CUTOFF = 0.75
"""Smallest `difflib` ratio between a misspelled word and the right one."""
MAX_SUGGESTIONS = 5
MAX_NAME_LENGTH = 100
DECORATION_PATTERN = re.compile(r"\([^)]*\)|@.*|\d+-cores?\b")
"""Trademarks, clock rates and core counts in processor names."""
SIZE = re.compile(r"(?:(\d+)/)?(\d+) ?gb\b")


def words(text: str) -> frozenset[str]:
    """Return the words of a text in lower case; a memory size is one word."""
    plain = DECORATION_PATTERN.sub(" ", text[:MAX_NAME_LENGTH].casefold())
    sized = SIZE.sub(lambda match: " ".join(f" {size}gb " for size in match.groups("")), plain)
    return frozenset(re.findall(r"\w+", sized)) - {"gb"}


def corrected(wanted: Collection[str], known: Iterable[str]) -> frozenset[str]:
    """Return the words with misspelled ones replaced by the most similar known word.

    Words with a digit are kept: another number means another product.
    """
    spelled = {word for word in known if word.isalpha()}
    return frozenset(
        word
        if word in spelled or not word.isalpha()
        else next(
            iter(difflib.get_close_matches(word, sorted(spelled), 1, SIMILARITY_CUTOFF)), word
        )
        for word in wanted
    )


def closest(text: str, names: Iterable[str]) -> list[str]:
    """Return names similar to a text, the most similar first."""
    shown = {name.casefold(): name for name in names}
    found = difflib.get_close_matches(text[:MAX_NAME_LENGTH].casefold(), shown, MAX_SUGGESTIONS)
    return [shown[name] for name in found]


def with_all_words(wanted: frozenset[str], rows: Iterable[tuple[frozenset[str], T]]) -> list[T]:
    """Return the rows with all wanted words, fewest other words first; none without words."""
    found = [(len(own - wanted), row) for own, row in rows if wanted and wanted <= own]
    return [row for _, row in sorted(found, key=lambda pair: pair[0])]


def joined_names(names: Collection[str]) -> str:
    """Return the first names joined, and the number of further ones."""
    more = len(names) - MAX_SUGGESTIONS
    return ", ".join(list(names)[:MAX_SUGGESTIONS]) + (f" and {more} more" if more > 0 else "")
