"""Mistakes in the emissions of a card: above all kilograms where grams are expected."""

import math
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from exporter import human
from exporter.errors import ConfigError
from exporter.report import figures
from exporter.report.card import compute
from exporter.report.card.agreement import disagreements
from exporter.report.card.amounts import NEAR, Mass, amounts, hub_reading, masses, number
from exporter.report.card.facts import TRAINING_TYPE, TRAINING_TYPES
from exporter.report.card.front_matter import EMISSIONS, KEY, Card, Metadata, line_of, read, split
from exporter.report.card.section import BULLET, extent

HUB_KEYS = (EMISSIONS, "source", TRAINING_TYPE, "geographical_location", "hardware_used")
TRACKER_KEYS = (
    *("cpu_model", "energy_consumed", "gpu_model", "hours_used", "on_cloud", "ram_total_size"),
)
"""Written with CodeCarbon's figures by Sentence Transformers and SpanMarker."""
MISTAKES = (
    (1e-3, "kilograms written as grams"),
    (1e-6, "tonnes written as grams"),
    (1 / 453.59237, "pounds written as grams"),
    (1e3, "a thousand times too much"),
    (1e6, "a million times too much"),
)
"""What stands there over what is right, and how that comes about."""
OF_EMISSIONS = re.compile(r"emission|carbon|\bCO2", re.IGNORECASE)
LEAST_GRAMS_PER_HOUR, MOST_GRAMS_PER_HOUR = 0.3, 3_000
"""Of one GPU: 30 W at 10 g/kWh, and 1.5 kW at 1000 g/kWh and a PUE of 2."""


class Finding(NamedTuple):
    """Something wrong (`error`), or likely so (`warning`), at a line of the card."""

    line: int
    severity: Literal["error", "warning"]
    text: str


def findings(text: str, record: Mapping[str, Any] | None = None) -> list[Finding]:
    """What is wrong with the emissions of a card; of a record, if given, they should be."""
    try:
        card = split(text)
        metadata = read(card)
    except ConfigError as error:
        found = re.match(r"line (\d+): (.*)", str(error), re.DOTALL)
        line, said = (int(found[1]), found[2]) if found else (1, str(error))
        return [Finding(line, "error", said)]
    if KEY not in metadata.values:
        return [Finding(1, "warning", f"no {KEY}: the Hub shows no emissions")]
    return list(_findings(card, metadata, record))


def _findings(
    card: Card, metadata: Metadata, record: Mapping[str, Any] | None
) -> Iterator[Finding]:
    line = line_of(card, metadata)
    if isinstance(metadata.values[KEY], list):
        yield Finding(line, "error", f"{KEY} is a list; write its names with values, without -")
        return
    there = metadata.emissions()
    yield from _amount(card, line, there, record)
    yield from _keys(card, metadata, there)
    for name, text in disagreements(there, card.body, record):
        yield Finding(line_of(card, metadata, name), "warning", f"{name}: {text}")


def _amount(
    card: Card, line: int, there: Mapping[Any, Any], record: Mapping[str, Any] | None
) -> Iterator[Finding]:
    if EMISSIONS not in there:
        yield Finding(line, "error", f"{KEY} has no {EMISSIONS}; the Hub's filter fails on it")
        return
    value = there[EMISSIONS]
    said = _grams(value)
    if said is None or not math.isfinite(said) or said < 0:
        yield Finding(line, "error", f"{EMISSIONS}: {value!r} is no amount in grams")
        return
    if isinstance(value, str):
        yield Finding(line, "error", f"{EMISSIONS}: {value!r} is a text; in grams it is {said:.9g}")
    read_as = hub_reading(value)
    if said == 0:
        yield Finding(line, "warning", f"{EMISSIONS}: 0 is taken for missing by the Hub's filter")
    elif read_as is None or not math.isclose(read_as, said, rel_tol=1e-6):
        yield Finding(
            line, "warning", f"{EMISSIONS}: the Hub's filter reads {read_as} for {said:.9g}"
        )
    if said:
        yield from _compared(card, line, said, there, record)


def _grams(value: Any) -> float | None:
    """What is meant, in grams; a text may name its unit."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if abs(value) <= sys.float_info.max else math.inf
    if not isinstance(value, str):
        return None
    found = amounts(value)
    if found:
        return found[0][1]
    try:
        return number(value.strip())
    except ValueError:
        return None


def _keys(card: Card, metadata: Metadata, there: Mapping[Any, Any]) -> Iterator[Finding]:
    for name in there:
        if name not in HUB_KEYS and name not in TRACKER_KEYS:
            line = line_of(card, metadata, name)
            yield Finding(line, "warning", f"{name} is none of {', '.join(HUB_KEYS)}")
    kind = there.get(TRAINING_TYPE)
    if kind is not None and kind not in TRAINING_TYPES:
        line = line_of(card, metadata, TRAINING_TYPE)
        yield Finding(
            line, "warning", f"{TRAINING_TYPE}: {kind!r} is not {' or '.join(TRAINING_TYPES)}"
        )


def _compared(
    card: Card,
    line: int,
    said: float,
    there: Mapping[Any, Any],
    record: Mapping[str, Any] | None,
) -> Iterator[Finding]:
    """Against what was measured, else what the section says, else what is possible at all."""
    lines = card.body.splitlines()
    found = extent(lines)
    lines = list(filter(_is_of_emissions, lines)) if found is None else lines[slice(*found)]
    section = "\n".join(lines)
    stated = [known for each in lines if (known := list(masses(each, section)))]
    if record is not None and record["carbon_ng"]:
        right = figures.carbon_grams(record)
        if not _is_near(said, right):
            why = f"the run emitted {human.carbon(record['carbon_ng'])}"
            yield _mistake(line, said, right, why)
    elif stated:
        yield from _stated(line, said, stated)
    else:
        yield from _possible(line, said, there, lines)


def _is_of_emissions(line: str) -> bool:
    """Whether it is an item on emissions, as cards without the section have them."""
    bullet = BULLET.match(line)
    return bullet is not None and OF_EMISSIONS.search(bullet[1]) is not None


def _stated(line: int, said: float, stated: list[list[Mass]]) -> Iterator[Finding]:
    """Against the masses of each line: one of them, or the sum of the lines, of phases."""
    every = [mass for of_line in stated for mass in of_line]
    total = sum(of_line[0].grams for of_line in stated)
    if any(mass.is_near(said) for mass in every) or _is_near(said, total):
        return
    known = [mass for mass in every if mass.grams]
    if known:
        mass = min(known, key=lambda mass: _strangeness(said / mass.grams))
        yield _mistake(line, said, mass.grams, f"the text says {mass.text}")


def _is_near(value: float, other: float) -> bool:
    return math.isclose(value, other, rel_tol=NEAR)


def _strangeness(ratio: float) -> int:
    return 0 if any(_is_near(ratio, known) for known, _ in MISTAKES) else 1


def _mistake(line: int, said: float, right: float, why: str) -> Finding:
    ratio = said / right
    other = f"{ratio:.3g} times too much" if ratio > 1 else f"only {ratio:.3g} of it"
    how = next((text for known, text in MISTAKES if _is_near(ratio, known)), other)
    return Finding(line, "error", f"{EMISSIONS}: {said:.9g} is {how}: {why}, {right:.9g} in grams")


def _possible(
    line: int, said: float, there: Mapping[Any, Any], lines: list[str]
) -> Iterator[Finding]:
    """Against the least and the most that so many GPUs emit in so many hours."""
    told = {b[1].strip().lower(): b[2] for each in lines if (b := BULLET.match(each))}
    hours = compute.hours(str(told.get("hours used") or there.get("hours_used") or ""))
    gpus = compute.gpus(str(there.get("hardware_used") or told.get("hardware type", "")))
    if hours is None or gpus is None:
        return
    if hours.is_of_gpus:
        gpus = compute.Bounds(1, 1)
    most = said / (hours.bounds.least * gpus.least)
    least = said / (hours.bounds.most * gpus.most)
    if most < LEAST_GRAMS_PER_HOUR:
        rate, guess = most, "kilograms written as grams"
    elif least > MOST_GRAMS_PER_HOUR:
        rate, guess = least, "a thousand times too much"
    else:
        return
    yield Finding(line, "warning", f"{EMISSIONS}: {rate:.3g} g an hour and GPU; perhaps {guess}")
