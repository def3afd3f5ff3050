"""The journal: the newest image in a file of fixed size, so that `kill -9` loses nothing shown.

It is written before each page is published and never flushed: the page cache survives the death of
a process, and a power cut makes the journal worthless anyway, since counters then begin at zero.

The file holds two key blocks (JSON: what rarely changes) and two slots (packed: what changes each
tick). Each write goes to the older of the two and leaves the newer alone, so there is a whole image
at every moment. A slot is believed if its checksum holds and it names the key block found beside.
"""

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, NamedTuple

from exporter.account.image import NOWHERE, Image
from exporter.account.keyblock import Keys, decode, encode
from exporter.errors import LedgerError
from exporter.model.books import Amount, MachineCpu, RunCpu
from exporter.model.readings import Position

MAGIC = b"EMISJNL1"
KEYS_BYTES = 1 << 20
SLOT_BYTES = 1 << 19
FILE_BYTES = 2 * (KEYS_BYTES + SLOT_BYTES)

CHECKSUM = struct.Struct("<I")
KEYS_HEAD = struct.Struct("<8sQI")
"""Magic, generation, length of the JSON that follows. Before it stands the checksum."""
SLOT_HEAD = struct.Struct("<8sQIQqdI")
"""Magic, generation and checksum of the key block, seq, at_ns, wall, length of the body."""
AMOUNT = "qqq"
POSITION = "qqdqqqqqB"
CPU = "q"
MACHINE = "qqB"


class _Slot(NamedTuple):
    """A slot whose checksum holds; the key block that it names may be gone."""

    generation: int
    seq: int
    number: int
    keys_crc: int
    at_ns: int
    wall: float
    body: bytes

    @property
    def age(self) -> tuple[int, int]:
        """Grows with every write. `seq` alone does not: a new ledger counts from the beginning."""
        return self.generation, self.seq


class Journal:
    """One journal file; used by one thread, and read before it is first written."""

    def __init__(self, path: str) -> None:
        self.origin = NOWHERE
        """Written with every image; tells who reads it whether its totals are still good."""
        self._path = path
        self._fd: int | None = None
        self._keys: Keys | None = None
        self._keys_crc = 0
        self._body = struct.Struct("")
        self._generation = 0
        self._slot = 0

    def read(self) -> Image | None:
        """The newest whole image in the file, with the origin that wrote it; None if there is none.

        Raises LedgerError if the file is there and cannot be read.
        """
        try:
            with open(self._path, "rb") as file:
                data = file.read(FILE_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failure("read", error) from error
        for slot in sorted(_slots(data), key=lambda slot: slot.age, reverse=True):
            keys = _keys(data, slot)
            if keys is not None and _body_struct(keys).size == len(slot.body):
                self._generation = slot.generation
                self._slot = slot.number
                return _image(keys, slot)
        return None

    def write(self, image: Image) -> None:
        """Make `image` the newest.

        Raises LedgerError where that fails. The file is then taken away, since an old image must
        never be gone on from after a newer page was shown; the next write begins a new one.
        """
        try:
            self._write(image)
        except (OSError, struct.error) as error:
            self._discard()
            raise self._failure("written", error) from error
        except LedgerError:
            self._discard()
            raise

    def close(self) -> None:
        """Let go of the file; it stays."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _write(self, image: Image) -> None:
        positions = image.positions
        keys = Keys(
            image.layout,
            self.origin,
            tuple([(position.device, position.epoch) for position in positions]),
            tuple([cpu.run for cpu in image.run_cpu]),
            image.factor,
        )
        fd = self._fd if self._fd is not None else self._open()
        known = self._keys
        if known is None or keys.layout is not known.layout or keys[1:] != known[1:]:
            self._write_keys(fd, keys)
        machine = image.machine_cpu
        head = SLOT_HEAD.pack(
            MAGIC,
            self._generation,
            self._keys_crc,
            image.seq,
            image.at_ns,
            image.wall,
            self._body.size,
        )
        body = self._body.pack(
            *chain.from_iterable(image.totals),
            *chain.from_iterable(map(_position_numbers, positions)),
            *[cpu.cpu_us for cpu in image.run_cpu],
            *((*machine, 1) if machine else (0, 0, 0)),
        )
        self._slot = 1 - self._slot
        self._put(fd, _slot_offset(self._slot), head + body, SLOT_BYTES)

    def _write_keys(self, fd: int, keys: Keys) -> None:
        text = encode(keys)
        # A key block is named by a slot only after it stands whole, in the place of the one
        # before the last, which no slot needs any more but the one that is written next.
        self._generation += 1
        block = KEYS_HEAD.pack(MAGIC, self._generation, len(text)) + text
        self._keys_crc = self._put(fd, _keys_offset(self._generation), block, KEYS_BYTES)
        self._body = _body_struct(keys)
        self._keys = keys

    def _put(self, fd: int, offset: int, data: bytes, room: int) -> int:
        """Write `data` behind its checksum, which is the answer."""
        if CHECKSUM.size + len(data) > room:
            raise LedgerError(
                f"journal {self._path}: {len(data)} bytes do not fit into {room}; totals are kept "
                "by the ledger alone, so a crash restarts the counters at zero; lower "
                "attribute.max_runs"
            )
        crc = zlib.crc32(data)
        written = os.pwritev(fd, [CHECKSUM.pack(crc), data], offset)
        if written != CHECKSUM.size + len(data):
            raise OSError(None, "only a part could be written")
        return crc

    def _open(self) -> int:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._fd = fd
        # All room is taken now, so that a disk that fills up later cannot stop a write.
        os.posix_fallocate(fd, 0, FILE_BYTES)
        return fd

    def _discard(self) -> None:
        self._keys = None
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        self.close()

    def _failure(self, done: str, error: Exception) -> LedgerError:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return LedgerError(
            f"journal {self._path} cannot be {done}: {reason}; until it can, a crash restarts the "
            "counters at zero; check the disk's free space and the directory's owner"
        )


def _keys_offset(generation: int) -> int:
    return generation % 2 * KEYS_BYTES


def _slot_offset(slot: int) -> int:
    return 2 * KEYS_BYTES + slot * SLOT_BYTES


def _body_struct(keys: Keys) -> struct.Struct:
    """The numbers of a slot; how many there are follows from the keys."""
    return struct.Struct(
        "<"
        + AMOUNT * len(keys.layout.lines)
        + POSITION * len(keys.positions)
        + CPU * len(keys.run_cpu)
        + MACHINE
    )


def _position_numbers(position: Position) -> tuple[float, ...]:
    suspect_uj = position.suspect_uj
    return (
        position.raw_uj,
        position.at_ns,
        position.power_watts,
        position.provisional_uj,
        position.provisional_at_ns,
        position.debt_uj,
        suspect_uj or 0,
        position.suspect_at_ns,
        suspect_uj is not None,
    )


def _slots(data: bytes) -> Iterator[_Slot]:
    """The whole slots in the file's bytes."""
    for number in (0, 1):
        start = _slot_offset(number)
        region = data[start : start + SLOT_BYTES]
        if len(region) < CHECKSUM.size + SLOT_HEAD.size:
            continue
        magic, generation, keys_crc, seq, at_ns, wall, length = SLOT_HEAD.unpack_from(
            region, CHECKSUM.size
        )
        body = CHECKSUM.size + SLOT_HEAD.size
        if magic == MAGIC and _is_whole(region, body + length):
            numbers = region[body : body + length]
            yield _Slot(generation, seq, number, keys_crc, at_ns, wall, numbers)


def _keys(data: bytes, slot: _Slot) -> Keys | None:
    """The key block that a slot names, if it still stands."""
    start = _keys_offset(slot.generation)
    region = data[start : start + KEYS_BYTES]
    magic, generation, length = KEYS_HEAD.unpack_from(region, CHECKSUM.size)
    text = CHECKSUM.size + KEYS_HEAD.size
    whole = magic == MAGIC and generation == slot.generation and _is_whole(region, text + length)
    if not whole or CHECKSUM.unpack_from(region)[0] != slot.keys_crc:
        return None
    try:
        return decode(region[text : text + length])
    except (TypeError, ValueError):  # whole, but written by a version with other fields
        return None


def _is_whole(region: bytes, end: int) -> bool:
    crc: int = CHECKSUM.unpack_from(region)[0]
    return end <= len(region) and zlib.crc32(region[CHECKSUM.size : end]) == crc


def _image(keys: Keys, slot: _Slot) -> Image:
    numbers: Iterator[Any] = iter(_body_struct(keys).unpack(slot.body))

    def take(count: int) -> list[Any]:
        return list(islice(numbers, count))

    totals = tuple(Amount(*take(len(AMOUNT))) for _ in keys.layout.lines)
    positions = []
    for device, epoch in keys.positions:
        raw, read_at, power, provisional, until, debt, suspect, suspect_at, is_suspect = take(
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
                suspect_uj=suspect if is_suspect else None,
                suspect_at_ns=suspect_at,
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
