"""Format of the journal: checkpoints as a key block in JSON and a slot of packed numbers."""

import json
import struct
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, NamedTuple

from exporter.account import decoding
from exporter.model.intensity import Factor
from exporter.model.ledger import AccountKey, Amount, Balance, HostCpuTime, RunCpuTime
from exporter.model.readings import CounterState, Device, Method
from exporter.model.runs import Owner, Progress, ProgressMark, RunInfo, RunKey, UnitCount
from exporter.model.workload import AttributionTarget, SplitMethod, UnattributedReason


class JournalOrigin(NamedTuple):
    """Ledger and boot that a journal belongs to; it is continued on the same boot only."""

    ledger_id: str
    boot_id: str


NO_ORIGIN = JournalOrigin("", "")


NO_BATCH = -1


class MergedRun(NamedTuple):
    """A run that was merged into another one."""

    old: RunKey
    new: RunKey
    seq: int = NO_BATCH
    """The batch with the merge."""


class CheckpointLayout(NamedTuple):
    """Parts of a checkpoint that rarely change; the same object while nothing has changed."""

    lines: tuple[AccountKey, ...]
    bases: tuple[Amount, ...]
    runs: tuple[RunInfo, ...]
    awaiting_history: tuple[RunKey, ...]
    """Runs with stored totals that were not added to their accounts yet."""
    owners: tuple[tuple[Owner, int, int], ...] = ()
    """Counted energy (uJ) and carbon (ng) of departed runs by owner."""
    backfill_id: int = 0
    """Id of the last backfill in the totals."""
    merged: "tuple[MergedRun, ...]" = ()
    """Merges that the ledger may not have yet, in order."""


class Checkpoint(NamedTuple):
    """The state from which a restart on the same boot continues."""

    seq: int
    """Number of the checkpoint; a batch with the same number has the same state."""
    at_ns: int
    wall: float
    layout: CheckpointLayout
    totals: tuple[Amount, ...]
    """One total for each of the layout's lines."""
    counter_states: tuple[CounterState, ...]
    run_cpu: tuple[RunCpuTime, ...]
    machine_cpu: HostCpuTime | None
    factor: Factor | None
    """Factor in force at that time."""
    origin: JournalOrigin = NO_ORIGIN
    """Set by the journal when it is read."""

    def balances(self) -> dict[AccountKey, Balance]:
        """Return the balance of each account."""
        layout = self.layout
        return dict(zip(layout.lines, map(Balance, self.totals, layout.bases), strict=True))


class KeyBlock(NamedTuple):
    """Keys of the numbers in a slot, in the slot's order."""

    layout: CheckpointLayout
    origin: JournalOrigin
    counter_states: tuple[tuple[Device, str], ...]
    """Device and epoch of each counter state."""
    run_cpu: tuple[RunKey, ...]
    factor: Factor | None

    @classmethod
    def of(cls, image: Checkpoint, origin: JournalOrigin) -> "KeyBlock":
        """Return the keys of a checkpoint that is written by `origin`."""
        return cls(
            image.layout,
            origin,
            tuple([(state.device, state.epoch) for state in image.counter_states]),
            tuple([cpu.run for cpu in image.run_cpu]),
            image.factor,
        )

    def same_as(self, other: "KeyBlock | None") -> bool:
        """Return whether both are equal; cheap, since equal layouts are one object."""
        return other is not None and self.layout is other.layout and self[1:] == other[1:]


class KeyBlockEncoder:
    """Encodes key blocks as JSON; named tuples become lists, in the order of their fields.

    The encoded values of the last key block are cached: when one run begins, hundreds of accounts
    stay the same.
    """

    def __init__(self) -> None:
        self._encoded: dict[object, bytes] = {}

    def encode(self, keys: KeyBlock) -> bytes:
        """Return the key block as UTF-8."""
        lines, bases, runs, awaiting_history, owners, backfill_id, merged = keys.layout
        values: Iterable[object] = chain(lines, bases, runs, owners, keys.run_cpu)
        cached = self._encoded
        self._encoded = pieces = {value: cached.get(value) or _json(value) for value in values}

        def listed(values: Iterable[object]) -> bytes:
            return _list(pieces[value] for value in values)

        return _list(
            (
                _list(
                    (
                        listed(lines),
                        listed(bases),
                        listed(runs),
                        _json(awaiting_history),
                        listed(owners),
                        _json(backfill_id),
                        _json(merged),
                    )
                ),
                _json(keys.origin),
                _json(keys.counter_states),
                listed(keys.run_cpu),
                _json(keys.factor),
            )
        )


def decode_key_block(text: bytes) -> KeyBlock:
    """Decode a key block, equal to the encoded one.

    One of another version raises TypeError, ValueError, LookupError, AttributeError, OverflowError
    or RecursionError.
    """
    layout, origin, counter_states, run_cpu, factor = json.loads(text)
    lines, bases, runs, awaiting_history, owners, *rest = layout
    more: list[Any] = rest
    backfill_id, merged = (more + [0, []][len(more) :])[:2]  # an older journal has neither, or one
    keys = KeyBlock(
        CheckpointLayout(
            lines=tuple(_decode_account_key(*line) for line in lines),
            bases=tuple(Amount(*base) for base in bases),
            runs=tuple(_decode_run(*run) for run in runs),
            awaiting_history=tuple(RunKey(*key) for key in awaiting_history),
            owners=tuple((decoding.decode_owner(owner), *sums) for owner, *sums in owners),
            backfill_id=int(backfill_id),
            merged=tuple(MergedRun(RunKey(*old), RunKey(*new), seq) for old, new, seq in merged),
        ),
        JournalOrigin(*origin),
        tuple((decoding.decode_device(device), epoch) for device, epoch in counter_states),
        tuple(RunKey(*key) for key in run_cpu),
        decoding.decode_factor(factor) if factor else None,
    )
    hash(keys)  # TypeError, if a key has a list or an object for a text
    return keys


_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def _json(value: object) -> bytes:
    """Encode as JSON; lone surrogates, which UTF-8 does not allow, are kept."""
    return _encode(value).encode("utf-8", "surrogatepass")


def _list(pieces: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(pieces) + b"]"


def _decode_account_key(device: list[str], target: Any, method: str, split: str) -> AccountKey:
    decoded: AttributionTarget = (
        UnattributedReason(target) if isinstance(target, str) else RunKey(*target)
    )
    return AccountKey(decoding.decode_device(device), decoded, Method(method), SplitMethod(split))


def _decode_run(key: list[Any], *rest: Any) -> RunInfo:
    run = RunInfo(RunKey(*key), *rest)
    return run._replace(
        labels=_decode_pairs(run.labels),
        enclosing=RunKey(*run.enclosing) if run.enclosing else None,
        units=tuple(UnitCount(*unit) for unit in run.units),
        logged=_decode_pairs(run.logged),
        progress=_decode_progress(run.progress) if run.progress else None,
        owner=decoding.decode_owner(run.owner) if run.owner else None,
    )


def _decode_pairs(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple((name, value) for name, value in values)


def _decode_progress(values: Iterable[Any]) -> Progress:
    total, first, last, *more = values  # an older journal has no more
    between = tuple([ProgressMark(*mark) for mark in chain(*more)])
    return Progress(total, ProgressMark(*first), ProgressMark(*last), between)


SLOT_HEADER = struct.Struct("<IQqd")
"""Checksum of the key block, seq, at_ns, wall."""
AMOUNT_FORMAT = "qqq"
COUNTER_STATE_FORMAT = "qqqdqqqqqB"
SUSPECT_FLAG, UNCOUNTED_FLAG = 1, 2
"""Bits of the last number of a counter state."""
CPU_FORMAT = "q"
HOST_CPU_FORMAT = "qqB"


class Slot(NamedTuple):
    """Contents of a slot; `checkpoint_from` combines them with the key block."""

    keys_crc: int
    """Checksum of the key block."""
    seq: int
    at_ns: int
    wall: float
    numbers: bytes


def pack_slot(image: Checkpoint, keys_crc: int) -> bytes:
    """Pack the numbers of a checkpoint that are not in its key block."""
    machine = image.machine_cpu
    numbers = struct.pack(
        _format_of(image),
        *chain.from_iterable(image.totals),
        *chain.from_iterable(map(_counter_state_numbers, image.counter_states)),
        *[cpu.cpu_us for cpu in image.run_cpu],
        *((*machine, 1) if machine else (0, 0, 0)),
    )
    return SLOT_HEADER.pack(keys_crc, image.seq, image.at_ns, image.wall) + numbers


def slot_bytes(image: Checkpoint) -> int:
    """Return the length of the result of `pack_slot`."""
    return SLOT_HEADER.size + struct.calcsize(_format_of(image))


def unpack_slot(data: bytes) -> Slot:
    """Unpack the result of `pack_slot`, for `checkpoint_from`."""
    keys_crc, seq, at_ns, wall = SLOT_HEADER.unpack_from(data)
    return Slot(keys_crc, seq, at_ns, wall, data[SLOT_HEADER.size :])


def checkpoint_from(slot: Slot, keys: KeyBlock) -> Checkpoint:
    """Combine slot and keys. Raises struct.error if their numbers of values differ."""
    lines = keys.layout.lines
    layout = _format(len(lines), len(keys.counter_states), len(keys.run_cpu))
    numbers: Iterator[Any] = iter(struct.unpack(layout, slot.numbers))

    def take(count: int) -> list[Any]:
        return list(islice(numbers, count))

    totals = tuple(Amount(*take(len(AMOUNT_FORMAT))) for _ in lines)
    counter_states = []
    for device, epoch in keys.counter_states:
        raw, read_at, awake, power, provisional, until, debt, suspect, suspect_at, flags = take(
            len(COUNTER_STATE_FORMAT)
        )
        counter_states.append(
            CounterState(
                device=device,
                raw_uj=raw,
                at_ns=read_at,
                epoch=epoch,
                power_watts=power,
                provisional_uj=provisional,
                provisional_at_ns=until,
                debt_uj=debt,
                suspect_uj=suspect if flags & SUSPECT_FLAG else None,
                suspect_at_ns=suspect_at,
                awake_ns=awake,
                uncounted=bool(flags & UNCOUNTED_FLAG),
            )
        )
    run_cpu = tuple(RunCpuTime(run, *take(1)) for run in keys.run_cpu)
    busy_us, total_us, is_known = take(len(HOST_CPU_FORMAT))
    return Checkpoint(
        seq=slot.seq,
        at_ns=slot.at_ns,
        wall=slot.wall,
        layout=keys.layout,
        totals=totals,
        counter_states=tuple(counter_states),
        run_cpu=run_cpu,
        machine_cpu=HostCpuTime(busy_us, total_us) if is_known else None,
        factor=keys.factor,
        origin=keys.origin,
    )


def _format_of(image: Checkpoint) -> str:
    return _format(len(image.totals), len(image.counter_states), len(image.run_cpu))


def _format(lines: int, counter_states: int, run_cpu: int) -> str:
    """Return the `struct` format of the numbers, little-endian and without padding."""
    amounts = f"{len(AMOUNT_FORMAT) * lines}q"
    states = COUNTER_STATE_FORMAT * counter_states
    return f"<{amounts}{states}{run_cpu}{CPU_FORMAT}{HOST_CPU_FORMAT}"


def _counter_state_numbers(state: CounterState) -> tuple[float, ...]:
    suspect_uj = state.suspect_uj
    return (
        state.raw_uj,
        state.at_ns,
        state.awake_ns,
        state.power_watts,
        state.provisional_uj,
        state.provisional_at_ns,
        state.debt_uj,
        suspect_uj or 0,
        state.suspect_at_ns,
        (SUSPECT_FLAG if suspect_uj is not None else 0)
        | (UNCOUNTED_FLAG if state.uncounted else 0),
    )
