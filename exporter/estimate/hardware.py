"""The power limit of hardware, from the bundled table, by a name as people write it."""

import csv
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from exporter.data.processors import TABLE, plain_name, rows_of
from exporter.errors import ConfigError
from exporter.estimate.name_matching import closest, corrected, joined_names, with_all_words, words

WATTS = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) ?w(?:atts?)?", re.IGNORECASE)
VENDORS = frozenset(("amd", "google", "intel", "nvidia"))
PRODUCT_LINES = frozenset(("geforce", "tesla"))
"""What NVIDIA's cards are called besides, with or without which they are the same."""
NOISE_WORDS = frozenset(("accelerator", "card", "cpu", "gpu", "graphics", "processor"))
MEMORY = re.compile(r"\d+gb|hbm\w*")
FORM_FACTOR = re.compile(r"(sxm)[2456]\w?")
"""Which generation of the socket it is follows from the card; a V100 for SXM3 draws more."""
JOINED = re.compile(r"(gtx|rtx)(\d+)")
DRIVER_NAMES = {
    words("NVIDIA H100 80GB HBM3"): "H100 SXM",
    words("H100 80GB HBM3"): "H100 SXM",
    words("NVIDIA H200"): "NVIDIA H200 SXM",
    words("Quadro RTX 8000"): "RTX 8000",
}
"""The rows of cards that drivers call by other words."""


class Hardware(NamedTuple):
    """One part, and the power that it is built for."""

    name: str
    watts: Fraction
    kind: str
    """gpu, tpu or cpu; "" where only a power was given."""
    vendor: str = ""
    source: str = ""
    doubt: str = ""
    """What is odd about the row, if anything."""


class HardwareMatch(NamedTuple):
    """The part that a name was taken for, and the others that have all its words."""

    hardware: Hardware
    others: tuple[Hardware, ...] = ()


def find_hardware(text: str) -> HardwareMatch:
    """The part of a name, or of a power as `350 W`.

    Where a name could be several parts, accelerators go before processors, and those left must
    have one power. Raises ConfigError naming what it could be, or what looks like it.
    """
    power = WATTS.fullmatch(text.strip())
    if power is not None:
        return HardwareMatch(
            Hardware(f"{power[1]} W", Fraction(power[1]), "", "", "as it was given")
        )
    rows = list(_rows())
    found, alike = _rows_named(text, rows)
    if not found:
        names = (row.name for row in rows)
        near = closest(text, (row.name for row in _accelerators_first(rows))) or closest(
            text, names
        )
        hint = f"; did you mean {' or '.join(near)}?" if near else ";"
        raise ConfigError(
            f"estimate: no bundled table knows the hardware {text!r:.200}{hint} a power, "
            "as --hardware '350 W', is taken too"
        )
    if len({row.watts for row in found}) > 1:
        could_be = [f"{row.name} ({float(row.watts):g} W)" for row in found]
        raise ConfigError(
            f"estimate: --hardware {text!r:.200} could be {joined_names(could_be)}; "
            "name one of them"
        )
    same = _vendors_and_words(found[0].name)[1]
    return HardwareMatch(
        found[0], tuple(row for row in alike if _vendors_and_words(row.name)[1] != same)
    )


def _rows_named(
    text: str, rows: Sequence[Hardware]
) -> tuple[Sequence[Hardware], Sequence[Hardware]]:
    """The rows that a name means: in full, as a kernel shows it, or by its words."""
    name = text.strip().casefold()
    exact = [row for row in rows if row.name.casefold() == name]
    if exact:
        return exact, _matching(text, rows)[1] or exact
    shown = {row["name"] for row in rows_of(text)}
    if shown:
        same = [row for row in rows if row.name in shown]
        return same, same
    found, alike = _matching(DRIVER_NAMES.get(words(text), text), rows)
    if found:
        return found, alike
    return _matching(plain_name(text), [row for row in rows if row.kind == "cpu"])


def _matching(text: str, rows: Sequence[Hardware]) -> tuple[Sequence[Hardware], Sequence[Hardware]]:
    """The rows that a name means, equal ones first of all; and those that have all its words."""
    vendors, asked = _vendors_and_words(text)
    numbers = [word for word in asked if not word.isalpha() and not MEMORY.fullmatch(word)]
    table = [
        (_vendors_and_words(row.name)[1], row)
        for row in rows
        if all(number in row.name.casefold() for number in numbers)
        and (not vendors or row.vendor.lower() in ("", *vendors))
    ]
    known = {*VENDORS, *PRODUCT_LINES, *NOISE_WORDS, *(word for own, _ in table for word in own)}
    sizeless = frozenset(word for word in asked if not MEMORY.fullmatch(word))
    ways = (asked, sizeless)
    for way in (*ways, *(_vendors_and_words(" ".join(corrected(way, known)))[1] for way in ways)):
        found = _accelerators_first(with_all_words(way, table))
        equal = [row for row in found if _vendors_and_words(row.name)[1] == way]
        if found:
            return equal or found, found
    return (), ()


def _accelerators_first(found: Sequence[Hardware]) -> list[Hardware]:
    """Accelerators, if there are any."""
    return [row for row in found if row.kind != "cpu"] or list(found)


def _vendors_and_words(name: str) -> tuple[frozenset[str], frozenset[str]]:
    """The vendors in a name, and its other words."""
    found = words(JOINED.sub(r"\1 \2", name.casefold()))
    if found & PRODUCT_LINES:
        found |= {"nvidia"}
    rest = found - VENDORS - PRODUCT_LINES - NOISE_WORDS
    return found & VENDORS, frozenset(FORM_FACTOR.sub(r"\1", word) for word in rest)


def _rows() -> Iterator[Hardware]:
    with TABLE.open(encoding="utf-8") as lines:
        for cells in csv.DictReader(lines):
            flag = cells["flag"]
            yield Hardware(
                cells["name"],
                Fraction(cells["tdp_watts"]),
                cells["type"],
                cells["vendor"],
                cells["source"].partition(" (")[0],
                flag if flag.startswith("suspect") else "",
            )
