"""Checks of the emissions in a model card, for example for kilograms instead of grams."""

import math
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from exporter import formatting, units
from exporter.errors import ConfigError
from exporter.report import quantities
from exporter.report.card.agreement import disagreements
from exporter.report.card.amounts import (
    NUMBER,
    NUMBER_START,
    TOLERANCE,
    Mass,
    find_amounts,
    find_masses,
    hub_value,
    parse_decimal,
)
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
OF_EMISSIONS = re.compile(r"emission|carbon|\bCO2", re.IGNORECASE)
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
            yield Finding(
                line, "warning", f"{name} is unknown; expected one of {', '.join(HUB_KEYS)}"
            )
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
        if not _is_near(said, right):
            why = f"the run emitted {formatting.carbon(record['carbon_ng'])}"
            yield _mistake(line, said, right, why)
    elif stated:
        yield from _compare_with_text(line, said, stated)
    else:
        yield from _check_plausible(line, said, there, lines)


def _is_of_emissions(line: str) -> bool:
    """Whether the line is a list item on emissions, for cards without the section."""
    bullet = BULLET.match(line)
    return bullet is not None and OF_EMISSIONS.search(bullet[1]) is not None


def _compare_with_text(line: int, said: float, stated: list[list[Mass]]) -> Iterator[Finding]:
    """Compare with the masses in the text: with each one, and with the sum over lines."""
    every = [mass for of_line in stated for mass in of_line]
    total = sum(of_line[0].grams for of_line in stated)
    if any(mass.is_near(said) for mass in every) or _is_near(said, total):
        return
    known = [mass for mass in every if mass.grams]
    if known:
        mass = min(known, key=lambda mass: _mistake_rank(said / mass.grams))
        yield _mistake(line, said, mass.grams, f"the text says {mass.text}")


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


def _check_plausible(
    line: int, said: float, there: Mapping[Any, Any], lines: list[str]
) -> Iterator[Finding]:
    """Compare with the range that the stated GPUs can emit in the stated hours."""
    items = {b[1].strip().lower(): b[2] for each in lines if (b := BULLET.match(each))}
    hours = parse_hours(str(items.get("hours used") or there.get("hours_used") or ""))
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


MAX_CHARACTERS = 300
"""Maximum number of characters parsed."""
MARKS = re.compile(r"\((?:r|tm|c)\)|[\u00ae\u2122\\]|(?<=\d),(?=\d{3}\b)", re.IGNORECASE)
"""Trademarks, escapes of Markdown, and commas that group digits."""
PARTS = re.compile(
    r"[,;+&()\[\]/:]|\b(?:and|each|for|of|on|plus|using|with)\b| [-\u2013\u2014] ", re.IGNORECASE
)
PROCESSOR = re.compile(
    r"\b(?:xeon|epyc|ryzen|threadripper|opteron|graviton|celeron|pentium|v?cpus?|processors?"
    r"|(?<!tensor )v?cores?|apple m\d|m\d (?:chip|pro|max|ultra))\b",
    re.IGNORECASE,
)
NODES = re.compile(
    r"(?<![\w.-])(\d{1,6})\s*(?:x\s*)?(?:[a-z][\w-]*\s+)?(?:nodes?|machines?|servers?|hosts?|instances?)\b",
    re.IGNORECASE,
)
LEADING = re.compile(
    r"\W*(?:(?:an?|about|approx\w*|around|total|up to|the)\b\W*)*(\d{1,6})(?![\d.])"
    r"(?P<times>\s*[x\u00d7*](?=\s|\d|[a-z]))?\s*(?P<what>.*)",
    re.IGNORECASE,
)
"""`8 A100`, `8x A100`, `1 \u00d7 RTX 3090`."""
TRAILING = re.compile(r"(?:(?<![a-z])x|[\u00d7*])\s*(\d{1,6})(?![\w.])", re.IGNORECASE)
"""`A100 x 8`, `A100x4`."""
INSIDE = re.compile(
    r"(?<![\w.-])(?<!rtx )(?<!gtx )(?<!rx )(?<!quadro )(?<!titan )(?<!geforce )"
    r"(\d{1,6})[\s-]*(?:gpu|card|accelerator|tpu|chip)s?\b",
    re.IGNORECASE,
)
"""`NVIDIA A100, 8 GPUs`, but not `RTX 3090 GPU`."""
MODEL_NUMBER = re.compile(r"[1-9]\d{1,2}0")
"""Numbers that are GPU model names: 980, 2080, 8000; not 8, 64 or 1024."""
MODEL_TAIL = re.compile(r"\W*$|(?:ti|super|d|xtx?|ada|laptop|mobile|gpus?|cards?)\b", re.IGNORECASE)
MODEL_TAIL_TIMES = re.compile(r"\d{1,6}\W*$")
"""`3090 x 2`."""
NO_COUNT = re.compile(
    r"(?:[gmt]i?b?|go|watts?|k?w|h|hrs?|hours?|days?|weeks?|months?|min\w*|epochs?|steps?|vram"
    r"|ram|memory|(?:st|nd|rd|th)\b.*)\b",
    re.IGNORECASE,
)
"""Units after a number that does not count GPUs."""
PLURAL = re.compile(
    r"\b(?:gpus|tpus|accelerators|cards|[a-z]{1,3}\d{1,4}[a-z]?(?-i:s))\b", re.IGNORECASE
)
"""`A100s`, but not `L40S`."""

HOURS_IN: dict[str, float] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1 / 3600),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 1 / 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours", "heure", "heures", "horas"), 1.0),
    **dict.fromkeys(("d", "day", "days"), 24.0),
    **dict.fromkeys(("week", "weeks"), 7 * 24.0),
}
TIME = re.compile(
    rf"{NUMBER_START}(?:(?P<first>{NUMBER})\s*(?:[-\u2013\u2014]|to\b)\s*)?(?P<number>{NUMBER})"
    rf"[\s-]*(?P<device>(?:(?!{'|'.join(HOURS_IN)}\b)[a-z][\w-]*[\s-]+){{0,2}})"
    rf"(?P<unit>{'|'.join(sorted(HOURS_IN, key=len, reverse=True))})\b",
    re.IGNORECASE,
)
BARE = re.compile(rf"[\s~\u2248>]*(?P<number>{NUMBER})\s*(?:$|\()")
FORMULA = re.compile(r"[=*\u00d7]|\d\s*x\s*\d", re.IGNORECASE)
JOINT = re.compile(r"[\s,]*(?:and\s+)?")


class Bounds(NamedTuple):
    """Smallest and largest possible meaning of a text."""

    least: float
    most: float


class Hours(NamedTuple):
    """A duration; `is_gpu_hours` if it is summed over all GPUs."""

    bounds: Bounds
    is_gpu_hours: bool = False


def parse_gpu_count(text: str) -> Bounds | None:
    """Return the number of GPUs in a text; None if it names only processors."""
    plain = MARKS.sub("", text[:MAX_CHARACTERS])
    nodes = [int(found[1]) for found in NODES.finditer(plain)]
    parts = [part for part in PARTS.split(NODES.sub(" ", plain)) if part.strip(" .")]
    of_gpus = [part for part in parts if PROCESSOR.search(part) is None]
    if parts and len(of_gpus) < len(parts) and not any(map(_names_gpu, of_gpus)):
        return None
    counts = [count for part in of_gpus for count in _parse_gpus_in_part(part)]
    least = max([1, *counts, *nodes])
    is_open = not counts and (nodes or PLURAL.search(plain))
    return Bounds(least, math.inf if is_open else max(1, sum(counts)) * math.prod(nodes))


def _names_gpu(part: str) -> bool:
    return re.search(r"[a-z]{2,}|[a-z]\d{1,4}", part, re.IGNORECASE) is not None


def _parse_gpus_in_part(part: str) -> Iterator[int]:
    """Yield the number of GPUs in a part of a text, if given."""
    leading = LEADING.match(part)
    if leading is not None:
        what = leading["what"]
        tail = MODEL_TAIL_TIMES if leading["times"] else MODEL_TAIL
        is_model = MODEL_NUMBER.fullmatch(leading[1]) and tail.match(what)
        if not is_model and (leading["times"] or not NO_COUNT.match(what)):
            yield int(leading[1])
            return
        part = part[leading.end(1) :]
    found = INSIDE.search(part) or TRAILING.search(part)
    if found is not None:
        yield int(found[1])


def parse_hours(text: str) -> Hours | None:
    """Parse a duration; None if it is ambiguous."""
    try:
        return _read_hours(text[:MAX_CHARACTERS])
    except ValueError:  # digits that are not a number, such as 1..2
        return None


def _read_hours(text: str) -> Hours | None:
    if FORMULA.search(text):
        return None
    found = list(TIME.finditer(text))
    if not found:
        bare = BARE.match(text)
        return None if bare is None else _hours([Bounds(*[parse_decimal(bare["number"])] * 2)])
    devices = {device.strip(" -").lower() for each in found if (device := each["device"])}
    if any(PROCESSOR.search(device) for device in devices):
        return None
    if devices:
        spans = [_parse_span(each) for each in found if each["device"]]
    else:
        spans, end = [], found[0].start()
        for each in found:  # 3 hours and 26 minutes
            joint = JOINT.match(text, end)
            if joint is None or joint.end() != each.start():
                break
            spans.append(_parse_span(each))
            end = each.end()
    return _hours(spans, is_of_gpus=bool(devices))


def _parse_span(found: re.Match[str]) -> Bounds:
    scale = HOURS_IN[found["unit"].lower()]
    most = parse_decimal(found["number"]) * scale
    return Bounds(parse_decimal(found["first"]) * scale if found["first"] else most, most)


def _hours(spans: list[Bounds], *, is_of_gpus: bool = False) -> Hours | None:
    least, most = sum(span.least for span in spans), sum(span.most for span in spans)
    return Hours(Bounds(least, most), is_of_gpus) if 0 < least <= most else None
