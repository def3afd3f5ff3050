"""The journal's key block: the parts of an image that rarely change, to and from JSON."""

import json
from collections.abc import Iterable
from itertools import chain
from typing import Any, NamedTuple

from exporter.account import plain
from exporter.account.image import Image, Layout, Merged, Origin
from exporter.model.books import Amount, Line
from exporter.model.intensity import Factor
from exporter.model.readings import Device, Method
from exporter.model.runs import Mark, Progress, RunInfo, RunKey, Unit
from exporter.model.workload import Party, Reason, Split


class Keys(NamedTuple):
    """What the numbers of a slot belong to, in the slot's order."""

    layout: Layout
    origin: Origin
    positions: tuple[tuple[Device, str], ...]
    """Device and epoch of each position."""
    run_cpu: tuple[RunKey, ...]
    factor: Factor | None

    @classmethod
    def of(cls, image: Image, origin: Origin) -> "Keys":
        """The keys of an image that is written by `origin`."""
        return cls(
            image.layout,
            origin,
            tuple([(position.device, position.epoch) for position in image.positions]),
            tuple([cpu.run for cpu in image.run_cpu]),
            image.factor,
        )

    def same_as(self, other: "Keys | None") -> bool:
        """Whether they are equal; cheap, since equal layouts are one object."""
        return other is not None and self.layout is other.layout and self[1:] == other[1:]


class Encoder:
    """Makes JSON of keys: named tuples become lists, in the order of their fields.

    When one run begins, hundreds of lines stay as they are: what was in the keys before is not
    made again.
    """

    def __init__(self) -> None:
        self._known: dict[object, bytes] = {}

    def encode(self, keys: Keys) -> bytes:
        """The keys as UTF-8."""
        lines, bases, runs, joining, owners, filled, merged = keys.layout
        values: Iterable[object] = chain(lines, bases, runs, owners, keys.run_cpu)
        known = self._known
        self._known = pieces = {value: known.get(value) or _json(value) for value in values}

        def listed(values: Iterable[object]) -> bytes:
            return _list(pieces[value] for value in values)

        return _list(
            (
                _list(
                    (
                        listed(lines),
                        listed(bases),
                        listed(runs),
                        _json(joining),
                        listed(owners),
                        _json(filled),
                        _json(merged),
                    )
                ),
                _json(keys.origin),
                _json(keys.positions),
                listed(keys.run_cpu),
                _json(keys.factor),
            )
        )


def decode(text: bytes) -> Keys:
    """The keys again, equal to those that were encoded. Raises TypeError or ValueError."""
    layout, origin, positions, run_cpu, factor = json.loads(text)
    lines, bases, runs, joining, owners, *rest = layout
    more: list[Any] = rest
    filled, merged = (more + [0, []][len(more) :])[:2]  # an older journal has neither, or one
    return Keys(
        Layout(
            lines=tuple(_line(*line) for line in lines),
            bases=tuple(Amount(*base) for base in bases),
            runs=tuple(_run(*run) for run in runs),
            joining=tuple(RunKey(*key) for key in joining),
            owners=tuple((plain.owner(owner), *sums) for owner, *sums in owners),
            filled=int(filled),
            merged=tuple(Merged(RunKey(*old), RunKey(*new), seq) for old, new, seq in merged),
        ),
        Origin(*origin),
        tuple((plain.device(device), epoch) for device, epoch in positions),
        tuple(RunKey(*key) for key in run_cpu),
        plain.factor(factor) if factor else None,
    )


_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def _json(value: object) -> bytes:
    """Lone surrogates, which UTF-8 does not allow, pass all the same."""
    return _encode(value).encode("utf-8", "surrogatepass")


def _list(pieces: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(pieces) + b"]"


def _line(device: list[str], party: Any, method: str, split: str) -> Line:
    who: Party = Reason(party) if isinstance(party, str) else RunKey(*party)
    return Line(plain.device(device), who, Method(method), Split(split))


def _run(key: list[Any], *rest: Any) -> RunInfo:
    run = RunInfo(RunKey(*key), *rest)
    return run._replace(
        labels=_pairs(run.labels),
        enclosing=RunKey(*run.enclosing) if run.enclosing else None,
        units=tuple(Unit(*unit) for unit in run.units),
        logged=_pairs(run.logged),
        progress=_progress(run.progress) if run.progress else None,
        owner=plain.owner(run.owner) if run.owner else None,
    )


def _pairs(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple((name, value) for name, value in values)


def _progress(values: Iterable[Any]) -> Progress:
    total, first, last, *more = values  # an older journal has no more
    between = tuple([Mark(*mark) for mark in chain(*more)])
    return Progress(total, Mark(*first), Mark(*last), between)
