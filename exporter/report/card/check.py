"""Checks of the emissions in a model card, for example for kilograms instead of grams."""

import difflib
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from exporter import formatting, units
from exporter.errors import ConfigError
from exporter.report import quantities
from exporter.report.card.agreement import disagreements
from exporter.report.card.amounts import (
    TOLERANCE,
    Mass,
    find_amounts,
    find_masses,
    hub_value,
    parse_decimal,
)
from exporter.report.card.compute import Bounds, Hours, parse_gpu_count, parse_hours
from exporter.report.card.facts import TRAINING_TYPE, TRAINING_TYPES
from exporter.report.card.front_matter import (
    EMISSIONS_FIELD,
    EMISSIONS_KEY,
    CardMetadata,
    ModelCard,
    line_of,
    parse_metadata,
    split_card,
)
from exporter.report.card.merge import BULLET, section_extent
from exporter.report.inner import include_inner

HUB_KEYS = (EMISSIONS_FIELD, "source", TRAINING_TYPE, "geographical_location", "hardware_used")
TRACKER_KEYS = (
    *("cpu_model", "energy_consumed", "gpu_model", "hours_used", "on_cloud", "ram_total_size"),
)
"""Keys that Sentence Transformers and SpanMarker write from CodeCarbon's data."""
UNIT_MISTAKES = (
    (1e-3, "kilograms written as grams"),
    (1e-6, "tonnes written as grams"),
    (1 / 453.59237, "pounds written as grams"),
    (1e3, "too large by a factor of 1000"),
    (1e6, "too large by a factor of 1000000"),
)
"""Ratios of stated to correct value, and the mistakes that cause them."""
HOURS_USED = re.compile(r"hours.used", re.IGNORECASE)
OF_EMISSIONS = re.compile(r"emission|carbon|\bCO2", re.IGNORECASE)
PLAIN_ITEM = re.compile(
    r"\s*(?:[-*+]\s+)?(?:total |estimated )?(?:carbon|co2\w*) emi(?:ssions?|tted)\b", re.IGNORECASE
)
"""`- Carbon emission 0.1 kg`, `CO2 Emissions (in grams): 3.3`."""
MIN_GRAMS_PER_GPU_HOUR, MAX_GRAMS_PER_GPU_HOUR = 0.3, 3_000
"""Of one GPU: 30 W at 10 g/kWh, and 1.5 kW at 1000 g/kWh and a PUE of 2."""


class Finding(NamedTuple):
    """A mistake (`error`) or a likely mistake (`warning`) at a line of the card."""

    line: int
    severity: Literal["error", "warning"]
    text: str


def check_card(text: str, record: Mapping[str, Any] | None = None) -> list[Finding]:
    """Check the emissions of a card, against a record if given; return the findings."""
    record = None if record is None else include_inner(record)
    try:
        card = split_card(text)
        metadata = parse_metadata(card)
    except ConfigError as error:
        match = re.match(r"line (\d+): (.*)", str(error), re.DOTALL)
        line, message = (int(match[1]), match[2]) if match else (1, str(error))
        return [Finding(line, "error", message)]
    if EMISSIONS_KEY not in metadata.values:
        return [Finding(1, "warning", f"no {EMISSIONS_KEY}: the Hub shows no emissions")]
    return list(_findings(card, metadata, record))


def _findings(
    card: ModelCard, metadata: CardMetadata, record: Mapping[str, Any] | None
) -> Iterator[Finding]:
    line = line_of(card, metadata)
    if isinstance(metadata.values[EMISSIONS_KEY], list):
        yield Finding(line, "error", f"{EMISSIONS_KEY} is a list; write it as a mapping, without -")
        return
    there = metadata.emissions()
    yield from _check_amount(card, line, there, record)
    yield from _check_keys(card, metadata, there)
    for name, text in disagreements(there, card.body, record):
        yield Finding(line_of(card, metadata, name), "warning", f"{name}: {text}")
    if record is not None:
        yield from _check_hours(card, there, record)


def _check_amount(
    card: ModelCard, line: int, there: Mapping[Any, Any], record: Mapping[str, Any] | None
) -> Iterator[Finding]:
    if EMISSIONS_FIELD not in there:
        yield Finding(
            line, "error", f"{EMISSIONS_KEY} has no {EMISSIONS_FIELD}; the Hub's filter fails on it"
        )
        return
    value = there[EMISSIONS_FIELD]
    said = _stated_grams(value)
    if said is None or not math.isfinite(said) or said < 0:
        yield Finding(line, "error", f"{EMISSIONS_FIELD}: {value!r} is not an amount in grams")
        return
    mistakes = list(_compare(card, line, said, there, record)) if said else []
    is_wrong = any(mistake.severity == "error" for mistake in mistakes)
    read_as = hub_value(value)
    reading = "no number" if read_as is None else f"{read_as:.9g}"
    is_misread = read_as is None or not math.isclose(read_as, said, rel_tol=1e-6)
    if isinstance(value, str):
        misread = f", in which the Hub's filter reads {reading}" if said and is_misread else ""
        remedy = "" if is_wrong else f"; write {said:.9g} (grams)"
        yield Finding(line, "error", f"{EMISSIONS_FIELD}: {value!r} is a text{misread}{remedy}")
    elif said and is_misread:
        remedy = "" if is_wrong else f"; {_plain_number_text(said)}"
        yield Finding(
            line,
            "warning",
            f"{EMISSIONS_FIELD}: the Hub's filter reads {reading} in {str(value)!r:.100}{remedy}",
        )
    if said == 0:
        yield Finding(line, "warning", f"{EMISSIONS_FIELD}: the Hub's filter treats 0 as missing")
    yield from mistakes


def _plain_number_text(grams: float) -> str:
    """Return what to write, so that the Hub's filter reads the number of grams."""
    plain = f"{grams:.9g}"
    if "e" not in plain:
        return f"write {plain} (grams)"
    if grams < 1:  # the Hub's library prints it with an exponent, however it is written
        return (
            "it misreads every amount below 0.0001, however it is written: keep the correct value, "
            "or write 0.0001 and the exact amount in the section"
        )
    return f"write {grams:.0f} (grams)"


def _stated_grams(value: Any) -> float | None:
    """Return the stated amount in grams; a text may contain a unit."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if abs(value) <= sys.float_info.max else math.inf
    if not isinstance(value, str):
        return None
    found = find_amounts(value)
    if found:
        return found[0][1]
    try:
        return parse_decimal(value.strip())
    except ValueError:
        return None


def _check_keys(
    card: ModelCard, metadata: CardMetadata, there: Mapping[Any, Any]
) -> Iterator[Finding]:
    for name in there:
        if name not in HUB_KEYS and name not in TRACKER_KEYS:
            line = line_of(card, metadata, name)
            near = difflib.get_close_matches(str(name), HUB_KEYS, 1, 0.9)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(HUB_KEYS)}"
            yield Finding(line, "warning", f"{name} is unknown; {hint}")
    kind = there.get(TRAINING_TYPE)
    if kind is not None and kind not in TRAINING_TYPES:
        line = line_of(card, metadata, TRAINING_TYPE)
        yield Finding(
            line, "warning", f"{TRAINING_TYPE}: {kind!r} is not {' or '.join(TRAINING_TYPES)}"
        )


def _compare(
    card: ModelCard,
    line: int,
    said: float,
    there: Mapping[Any, Any],
    record: Mapping[str, Any] | None,
) -> Iterator[Finding]:
    """Compare with the record, else with the section, else with what is plausible."""
    lines = card.body.splitlines()
    found = section_extent(lines)
    lines = list(filter(_is_of_emissions, lines)) if found is None else lines[slice(*found)]
    section = "\n".join(lines)
    stated = [known for each in lines if (known := list(find_masses(each, section)))]
    if record is not None and record["carbon_ng"]:
        right = quantities.carbon_grams(record)
        emitted = f"the run emitted {formatting.carbon(record['carbon_ng'])}"
        if not _is_near(said, right):
            yield _mistake(line, said, right, emitted)
        elif stated and (mass := _contradiction(right, stated)) is not None:
            where = _line_with(card, lambda each: mass.text in each)
            yield Finding(where, "error", f"the text says {mass.text}: {emitted}")
    elif stated:
        yield from _compare_with_text(line, said, stated)
    else:
        yield from _check_plausible(line, said, there, lines)


def _is_of_emissions(line: str) -> bool:
    """Whether the line is an item on emissions, for cards without the section."""
    bullet = BULLET.match(line)
    if bullet is not None:
        return OF_EMISSIONS.search(bullet[1]) is not None
    return PLAIN_ITEM.match(line) is not None


def _compare_with_text(line: int, said: float, stated: list[list[Mass]]) -> Iterator[Finding]:
    mass = _contradiction(said, stated)
    if mass is not None:
        yield _mistake(line, said, mass.grams, f"the text says {mass.text}")


def _contradiction(grams: float, stated: list[list[Mass]]) -> Mass | None:
    """Return a mass in the text if none of them is the amount, nor their sum over lines."""
    every = [mass for of_line in stated for mass in of_line]
    total = sum(of_line[0].grams for of_line in stated)
    if any(mass.is_near(grams) for mass in every) or _is_near(grams, total):
        return None
    known = (mass for mass in every if mass.grams)
    return min(known, key=lambda mass: _mistake_rank(grams / mass.grams), default=None)


def _is_near(value: float, other: float) -> bool:
    return math.isclose(value, other, rel_tol=TOLERANCE)


def _mistake_rank(ratio: float) -> int:
    return 0 if any(_is_near(ratio, known) for known, _ in UNIT_MISTAKES) else 1


def _mistake(line: int, said: float, right: float, why: str) -> Finding:
    ratio = said / right
    other = f"too large by a factor of {ratio:.3g}" if ratio > 1 else f"only {ratio:.3g} of it"
    how = next((text for known, text in UNIT_MISTAKES if _is_near(ratio, known)), other)
    grams = f"{right:.3g}" if right < units.GRAMS_PER_KG else f"{right:.0f}"
    return Finding(
        line, "error", f"{EMISSIONS_FIELD}: {said:.9g} is {how}: {why}, {grams} in grams"
    )


def _items(lines: Iterable[str]) -> dict[str, str]:
    """Return the items of a list, `- **Hours used:** 3`, by name in lower case."""
    return {b[1].strip().lower(): b[2] for each in lines if (b := BULLET.match(each))}


def _stated_hours(items: Mapping[str, str], there: Mapping[Any, Any]) -> Hours | None:
    return parse_hours(str(items.get("hours used") or there.get("hours_used") or ""))


def _line_with(card: ModelCard, is_meant: Callable[[str], object]) -> int:
    """Return the line of the card where its text first says something, else its first line."""
    before = len(f"{card.opening}{card.block}{card.closing}".splitlines())
    lines = card.body.splitlines()
    return next((before + n for n, each in enumerate(lines, 1) if is_meant(each)), 1)


def _check_hours(
    card: ModelCard, there: Mapping[Any, Any], record: Mapping[str, Any]
) -> Iterator[Finding]:
    """Compare the stated hours with the duration in the record, also as GPU hours."""
    lines = card.body.splitlines()
    found = section_extent(lines)
    stated = _stated_hours(_items(lines if found is None else lines[slice(*found)]), there)
    took = record.get("run_seconds", record["duration_seconds"]) / units.SECONDS_PER_HOUR
    gpus = {(part.get("node"), part["id"]) for part in record["parts"] if part["device"] == "gpu"}
    least, most = took * (1 - TOLERANCE), took * max(1, len(gpus)) * (1 + TOLERANCE)
    if stated is not None and not (stated.bounds.least <= most and stated.bounds.most >= least):
        text = f"the text says {stated.bounds.least:.4g} hours: the run took {took:.4g} hours"
        yield Finding(_line_with(card, HOURS_USED.search), "warning", text)


def _check_plausible(
    line: int, said: float, there: Mapping[Any, Any], lines: list[str]
) -> Iterator[Finding]:
    """Compare with the range that the stated GPUs can emit in the stated hours."""
    items = _items(lines)
    hours = _stated_hours(items, there)
    gpus = parse_gpu_count(str(there.get("hardware_used") or items.get("hardware type", "")))
    if hours is None or gpus is None:
        return
    if hours.is_gpu_hours:
        gpus = Bounds(1, 1)
    most = said / (hours.bounds.least * gpus.least)
    least = said / (hours.bounds.most * gpus.most)
    if most < MIN_GRAMS_PER_GPU_HOUR:
        rate, guess = most, "kilograms written as grams"
    elif least > MAX_GRAMS_PER_GPU_HOUR:
        rate, guess = least, "too large by a factor of 1000"
    else:
        return
    yield Finding(
        line, "warning", f"{EMISSIONS_FIELD}: {rate:.3g} g per GPU hour; possibly {guess}"
    )
