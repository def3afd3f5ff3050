"""The numbers of an image, which change with every tick, packed as bytes for the journal."""

import struct
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, NamedTuple

from exporter.account.image import Image
from exporter.account.keyblock import Keys
from exporter.model.books import Amount, MachineCpu, RunCpu
from exporter.model.readings import Position

HEAD = struct.Struct("<IQqd")
"""Checksum of the key block, seq, at_ns, wall."""
AMOUNT = "qqq"
POSITION = "qqqdqqqqqB"
IS_SUSPECT, UNCOUNTED = 1, 2
"""Bits of the last number of a position."""
CPU = "q"
MACHINE = "qqB"


class Slot(NamedTuple):
    """A slot's contents before anybody knows what its numbers belong to."""

    keys_crc: int
    """Of the key block that tells."""
    seq: int
    at_ns: int
    wall: float
    numbers: bytes


def pack(image: Image, keys_crc: int) -> bytes:
    """The image without what its key block says."""
    machine = image.machine_cpu
    numbers = struct.pack(
        _format_of(image),
        *chain.from_iterable(image.totals),
        *chain.from_iterable(map(_position_numbers, image.positions)),
        *[cpu.cpu_us for cpu in image.run_cpu],
        *((*machine, 1) if machine else (0, 0, 0)),
    )
    return HEAD.pack(keys_crc, image.seq, image.at_ns, image.wall) + numbers


def size(image: Image) -> int:
    """How many bytes `pack` makes of the image."""
    return HEAD.size + struct.calcsize(_format_of(image))


def unpack(data: bytes) -> Slot:
    """What `pack` made; `image` goes on from there."""
    keys_crc, seq, at_ns, wall = HEAD.unpack_from(data)
    return Slot(keys_crc, seq, at_ns, wall, data[HEAD.size :])


def image(slot: Slot, keys: Keys) -> Image:
    """The image again. Raises struct.error if the numbers are not those of the keys."""
    lines = keys.layout.lines
    layout = _format(len(lines), len(keys.positions), len(keys.run_cpu))
    numbers: Iterator[Any] = iter(struct.unpack(layout, slot.numbers))

    def take(count: int) -> list[Any]:
        return list(islice(numbers, count))

    totals = tuple(Amount(*take(len(AMOUNT))) for _ in lines)
    positions = []
    for device, epoch in keys.positions:
        raw, read_at, awake, power, provisional, until, debt, suspect, suspect_at, flags = take(
            len(POSITION)
        )
        positions.append(
            Position(
                device=device,
                raw_uj=raw,
                at_ns=read_at,
                epoch=epoch,
                power_watts=power,
                provisional_uj=provisional,
                provisional_at_ns=until,
                debt_uj=debt,
                suspect_uj=suspect if flags & IS_SUSPECT else None,
                suspect_at_ns=suspect_at,
                awake_ns=awake,
                uncounted=bool(flags & UNCOUNTED),
            )
        )
    run_cpu = tuple(RunCpu(run, *take(1)) for run in keys.run_cpu)
    busy_us, total_us, is_known = take(len(MACHINE))
    return Image(
        seq=slot.seq,
        at_ns=slot.at_ns,
        wall=slot.wall,
        layout=keys.layout,
        totals=totals,
        positions=tuple(positions),
        run_cpu=run_cpu,
        machine_cpu=MachineCpu(busy_us, total_us) if is_known else None,
        factor=keys.factor,
        origin=keys.origin,
    )


def _format_of(image: Image) -> str:
    return _format(len(image.totals), len(image.positions), len(image.run_cpu))


def _format(lines: int, positions: int, run_cpu: int) -> str:
    """The numbers as `struct` names them, little endian and without gaps."""
    return f"<{len(AMOUNT) * lines}q{POSITION * positions}{run_cpu}{CPU}{MACHINE}"


def _position_numbers(position: Position) -> tuple[float, ...]:
    suspect_uj = position.suspect_uj
    return (
        position.raw_uj,
        position.at_ns,
        position.awake_ns,
        position.power_watts,
        position.provisional_uj,
        position.provisional_at_ns,
        position.debt_uj,
        suspect_uj or 0,
        position.suspect_at_ns,
        (IS_SUSPECT if suspect_uj is not None else 0) | (UNCOUNTED if position.uncounted else 0),
    )
