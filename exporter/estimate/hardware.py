"""Looks up power limits of hardware in the bundled table, by names as people write them."""

import csv
import re
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import NamedTuple

from exporter.data.processors import TABLE, plain_name, rows_of
from exporter.errors import ConfigError
from exporter.estimate.name_matching import closest, corrected, joined_names, with_all_words, words
from exporter.units import WATTS_PER_KW

WATTS = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) ?(k?)w(?:atts?)?", re.IGNORECASE)
NUMBER = re.compile(r"\d{1,6}(?:\.\d{1,6})?")
COUNTED = re.compile(r"(\d{1,6}) ?(?:[x\u00d7*] ?| )(.*\S)", re.IGNORECASE)
"""A number of devices before a name: `8 A100`, `8x A100`."""
POWER_HINT = "a power, such as --hardware '350 W'"
VENDORS = frozenset(("amd", "google", "intel", "nvidia"))
PRODUCT_LINES = frozenset(("geforce", "tesla"))
"""NVIDIA product lines, which may be omitted in a name."""
NOISE_WORDS = frozenset(("accelerator", "card", "cpu", "gpu", "graphics", "processor"))
MEMORY = re.compile(r"\d+gb|hbm\w*")
FORM_FACTOR = re.compile(r"(sxm)[2456]\w?")
"""The generation of the socket follows from the card; a V100 for SXM3 draws more."""
JOINED = re.compile(r"(gtx|rtx)(\d+)")
DRIVER_NAMES = {
    words("NVIDIA H100 80GB HBM3"): "H100 SXM",
    words("H100 80GB HBM3"): "H100 SXM",
    words("NVIDIA H200"): "NVIDIA H200 SXM",
    words("Quadro RTX 8000"): "RTX 8000",
    words("AMD Instinct MI300X OAM"): "AMD Instinct MI300X",
}
"""Names from drivers that use other words than the table."""


class Hardware(NamedTuple):
    """A device with its power limit."""

    name: str
    watts: Fraction
    kind: str
    """gpu, tpu or cpu; "" if only a power was given."""
    vendor: str = ""
    source: str = ""
    doubt: str = ""
    """Warning about the value; "" if there is none."""


class HardwareMatch(NamedTuple):
    """The device that a name matched, and the others that have all its words."""

    hardware: Hardware
    others: tuple[Hardware, ...] = ()


def find_hardware(text: str) -> HardwareMatch:
    """Return the device for a name, or for a power such as `350 W` or `1.2 kW`.

    If a name matches several devices, accelerators take precedence over processors, and the
    remaining ones must have the same power. Raises ConfigError with the matches, or with similar
    names.
    """
    power = WATTS.fullmatch(text.strip())
    if power is not None:
        unit = f"{power[2].lower()}W"
        watts = Fraction(power[1]) * (WATTS_PER_KW if power[2] else 1)
        return HardwareMatch(Hardware(f"{power[1]} {unit}", watts, "", "", "as specified"))
    rows = _rows()
    found, alike = _rows_named(text, rows)
    if not found:
        names = (row.name for row in rows)
        near = closest(text, (row.name for row in _accelerators_first(rows))) or closest(
            text, names
        )
        hint = f"; did you mean {' or '.join(near)}?" if near else ";"
        raise ConfigError(
            f"estimate: no bundled table has the hardware {text!r:.200}"
            f"{_count_hint(text, rows) or _watts_hint(text) or hint} it can also be {POWER_HINT}"
        )
    if len({row.watts for row in found}) > 1:
        could_be = [f"{row.name} ({float(row.watts):g} W)" for row in found]
        raise ConfigError(
            f"estimate: --hardware {text!r:.200} could be {joined_names(could_be)}"
            f"{_watts_hint(text) or ';'} name one of them, or {POWER_HINT}"
        )
    same = _vendors_and_words(found[0].name)[1]
    return HardwareMatch(
        found[0], tuple(row for row in alike if _vendors_and_words(row.name)[1] != same)
    )


def _watts_hint(text: str) -> str:
    """Return a question if the text is a number without a unit; else ""."""
    number = text.strip()
    return f"; did you mean --hardware '{number} W'?" if NUMBER.fullmatch(number) else ""


def _count_hint(text: str, rows: Sequence[Hardware]) -> str:
    """Return how to give the number of devices if the text begins with it; else ""."""
    counted = COUNTED.fullmatch(text.strip())
    if counted is None or not _rows_named(counted[2], rows)[0]:
        return ""
    return f"; did you mean --hardware {counted[2]!r:.200} --count {counted[1]}?"


def _rows_named(
    text: str, rows: Sequence[Hardware]
) -> tuple[Sequence[Hardware], Sequence[Hardware]]:
    """Return the rows matched by full name, by a kernel's or driver's name, or by words.

    The second result also has those that contain all words of the name.
    """
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
    """Return the rows with the same words as a name, else those with all its words; and the latter.

    Misspelled words are corrected; numbers never are.
    """
    vendors, wanted = _vendors_and_words(text)
    numbers = [word for word in wanted if not word.isalpha() and not MEMORY.fullmatch(word)]
    table = [
        (_vendors_and_words(row.name)[1], row)
        for row in rows
        if all(number in row.name.casefold() for number in numbers)
        and (not vendors or row.vendor.lower() in ("", *vendors))
    ]
    known = {*VENDORS, *PRODUCT_LINES, *NOISE_WORDS, *(word for own, _ in table for word in own)}
    sizeless = frozenset(word for word in wanted if not MEMORY.fullmatch(word))
    variants = (wanted, sizeless)
    for variant in (
        *variants,
        *(_vendors_and_words(" ".join(corrected(each, known)))[1] for each in variants),
    ):
        found = _accelerators_first(with_all_words(variant, table))
        equal = [row for row in found if _vendors_and_words(row.name)[1] == variant]
        if found:
            return equal or found, found
    return (), ()


def _accelerators_first(found: Sequence[Hardware]) -> list[Hardware]:
    """Return the accelerators if there are any, else all."""
    return [row for row in found if row.kind != "cpu"] or list(found)


def _vendors_and_words(name: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the vendors in a name, and its other words."""
    found = words(JOINED.sub(r"\1 \2", name.casefold()))
    if found & PRODUCT_LINES:
        found |= {"nvidia"}
    rest = found - VENDORS - PRODUCT_LINES - NOISE_WORDS
    return found & VENDORS, frozenset(FORM_FACTOR.sub(r"\1", word) for word in rest)


@cache
def _rows() -> tuple[Hardware, ...]:
    with TABLE.open(encoding="utf-8") as lines:
        return tuple(
            Hardware(
                cells["name"],
                Fraction(cells["tdp_watts"]),
                cells["type"],
                cells["vendor"],
                cells["source"].partition(" (")[0],
                cells["flag"] if cells["flag"].startswith("suspect") else "",
            )
            for cells in csv.DictReader(lines)
        )
