"""The journal's key block: the parts of an image that rarely change, to and from JSON."""

import json
from typing import Any, NamedTuple

from exporter.account import plain
from exporter.account.image import Layout, Origin
from exporter.model.books import Amount, Line
from exporter.model.intensity import Factor
from exporter.model.readings import Device, Method
from exporter.model.runs import RunInfo, RunKey
from exporter.model.workload import Party, Reason, Split


class Keys(NamedTuple):
    """What the numbers of a slot belong to, in the slot's order."""

    layout: Layout
    origin: Origin
    positions: tuple[tuple[Device, str], ...]
    """Device and epoch of each position."""
    run_cpu: tuple[RunKey, ...]
    factor: Factor | None


def encode(keys: Keys) -> bytes:
    """The keys as JSON: named tuples become lists, in the order of their fields."""
    return json.dumps(keys, separators=(",", ":")).encode("ascii")


def decode(text: bytes) -> Keys:
    """The keys again, equal to those that were encoded."""
    layout, origin, positions, run_cpu, factor = json.loads(text)
    lines, bases, runs, joining = layout
    return Keys(
        Layout(
            lines=tuple(_line(*line) for line in lines),
            bases=tuple(Amount(*base) for base in bases),
            runs=tuple(_run(*run) for run in runs),
            joining=tuple(RunKey(*key) for key in joining),
        ),
        Origin(*origin),
        tuple((plain.device(device), epoch) for device, epoch in positions),
        tuple(RunKey(*key) for key in run_cpu),
        plain.factor(factor) if factor else None,
    )


def _line(device: list[str], party: Any, method: str, split: str) -> Line:
    who: Party = Reason(party) if isinstance(party, str) else RunKey(*party)
    return Line(plain.device(device), who, Method(method), Split(split))


def _run(key: list[Any], *rest: Any) -> RunInfo:
    run = RunInfo(RunKey(*key), *rest)
    return run._replace(labels=tuple((name, value) for name, value in run.labels))
