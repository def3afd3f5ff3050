"""Mistakes in the emissions of a card: above all kilograms where grams are expected."""

import math
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from exporter import human
from exporter.errors import ConfigError
from exporter.report import figures
from exporter.report.card.amounts import amounts, hub_reading, number
from exporter.report.card.facts import TRAINING_TYPE, TRAINING_TYPES
from exporter.report.card.front_matter import EMISSIONS, KEY, Card, Metadata, line_of, read, split
from exporter.report.card.section import BULLET, extent

KNOWN = (EMISSIONS, "source", TRAINING_TYPE, "geographical_location", "hardware_used")
NEAR = 0.02
MISTAKES = (
    (1e-3, "kilograms written as grams"),
    (1e-6, "tonnes written as grams"),
    (1 / 453.59237, "pounds written as grams"),
    (1e3, "a thousand times too much"),
    (1e6, "a million times too much"),
)
"""What stands there over what is right, and how that comes about."""
LEAST_GRAMS_PER_HOUR, MOST_GRAMS_PER_HOUR = 0.3, 3_000
"""Of one GPU: 30 W at 10 g/kWh, and 1.5 kW at 1000 g/kWh and a PUE of 2."""
HOURS = re.compile(r"\d[\d,]*(?:\.\d+)?")
GPUS = re.compile(r"(?<![\w.])(\d{1,5})\s*(?:x|\u00d7|\*|gpus?\b|(?=[a-z]))", re.IGNORECASE)


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
    there = metadata.emissions()
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
    yield from _keys(card, metadata, there)
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
        if name not in KNOWN:
            line = line_of(card, metadata, name)
            yield Finding(line, "warning", f"{name} is none of {', '.join(KNOWN)}")
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
    first, last = extent(lines) or (0, 0)
    stated = [amount for each in lines[first:last] for amount in amounts(each)]
    if record is not None and record["carbon_ng"]:
        right = figures.carbon_grams(record)
        yield from _mistake(
            line, said, right, f"the run emitted {human.carbon(record['carbon_ng'])}"
        )
    elif stated:
        if not any(_is_near(said, grams) for _, grams in stated):
            text, grams = min(
                stated, key=lambda each: _strangeness(said / each[1]) if each[1] else 2
            )
            yield from _mistake(line, said, grams, f"the text says {text}")
    else:
        yield from _possible(line, said, there, lines[first:last])


def _is_near(value: float, other: float) -> bool:
    return math.isclose(value, other, rel_tol=NEAR)


def _strangeness(ratio: float) -> int:
    return 0 if any(_is_near(ratio, known) for known, _ in MISTAKES) else 1


def _mistake(line: int, said: float, right: float, why: str) -> Iterator[Finding]:
    if not right or _is_near(said, right):
        return
    ratio = said / right
    other = f"{ratio:.3g} times too much" if ratio > 1 else f"only {ratio:.3g} of it"
    how = next((text for known, text in MISTAKES if _is_near(ratio, known)), other)
    yield Finding(line, "error", f"{EMISSIONS}: {said:.9g} is {how}: {why}, {right:.9g} in grams")


def _possible(
    line: int, said: float, there: Mapping[Any, Any], lines: list[str]
) -> Iterator[Finding]:
    """Against the least and the most that so many GPUs emit in so many hours."""
    told = {b[1].strip().lower(): b[2] for each in lines if (b := BULLET.match(each))}
    hours = HOURS.search(told.get("hours used", ""))
    hardware = str(there.get("hardware_used") or told.get("hardware type", ""))
    gpus = GPUS.search(hardware)
    if hours is None or not number(hours.group()) or "cpu" in hardware.lower():
        return
    rate = said / number(hours.group()) / max(1, int(gpus[1]) if gpus else 1)
    if LEAST_GRAMS_PER_HOUR <= rate <= MOST_GRAMS_PER_HOUR:
        return
    guess = (
        "kilograms written as grams" if rate < LEAST_GRAMS_PER_HOUR else "a thousand times too much"
    )
    yield Finding(line, "warning", f"{EMISSIONS}: {rate:.3g} g an hour and GPU; perhaps {guess}")
