"""Hours and counts of GPUs in the texts of model cards."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from exporter.report.card.amounts import NUMBER, NUMBER_START, parse_decimal

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
