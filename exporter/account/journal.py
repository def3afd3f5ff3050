"""Journal: a file with the newest checkpoint, so that `kill -9` loses no published value.

It is written before each publication and never flushed: the page cache survives the death of a
process, and after a power cut the journal is of no use, since counters then begin at zero.

The file holds two key blocks (JSON: data that rarely changes) and two slots (packed: data that
changes every tick). Each write replaces the older of the two, so that there is a complete
checkpoint at any time. A slot is valid if its checksum matches and it refers to the key block in
the file. A checkpoint that outgrows the file is written to a larger one, which replaces the file
once it is complete.
"""

import contextlib
import logging
import os
import struct
import zlib
from typing import NamedTuple

from exporter.account import journal_format
from exporter.account.database import foreign_file
from exporter.account.journal_format import (
    NO_ORIGIN,
    Checkpoint,
    KeyBlock,
    KeyBlockEncoder,
    decode_key_block,
)
from exporter.errors import LedgerError

log = logging.getLogger(__name__)

MAGIC = b"EMISJNL2"
"""Ends in the version of the file format; other versions are not read."""
INITIAL_SLOT_BYTES = 1 << 19
"""Initial size of a slot; a key block has twice as much. Enough for 200 runs with long labels."""
SLOTS_PER_FILE = 6
"""File size in slots: two key blocks of two slots each, and two slots."""

UNKNOWN_FORMAT = (
    *(TypeError, ValueError, LookupError, AttributeError, struct.error),
    *(OverflowError, RecursionError),
)
"""Errors of a checkpoint that is complete, but of another version."""
CHECKSUM = struct.Struct("<I")
HEAD = struct.Struct("<8sQI")
"""Magic, generation of the key block, length of the data. The checksum comes before it."""
OVERHEAD_BYTES = CHECKSUM.size + HEAD.size


class _Frame(NamedTuple):
    """Valid contents of a region of the file."""

    crc: int
    generation: int
    data: bytes


class Journal:
    """One journal file; used by one thread, and read before the first write."""

    def __init__(self, path: str) -> None:
        self.origin = NO_ORIGIN
        """Ledger and boot of the checkpoints; decides whether totals may be continued from it."""
        self._path = path
        self._path_of_next = f"{path}.next"
        self._fd: int | None = None
        self._place: tuple[int, int] | None = None
        """Device and inode of the open file, to notice that the path was removed or replaced."""
        self._room = 0
        self._encoder = KeyBlockEncoder()
        self._keys: KeyBlock | None = None
        self._keys_crc = 0
        self._generation = 0
        self._slot = 0

    def read(self) -> Checkpoint | None:
        """Return the newest complete checkpoint in the file with its origin; None without one.

        Raises LedgerError if the file exists and cannot be read.
        """
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failure("read", error) from error
        try:
            with open(fd, "rb", closefd=False) as file:
                image = self._newest(file.read())
        except OSError as error:
            os.close(fd)
            raise self._failure("read", error) from error
        if image is None:  # nothing to keep; the next write creates a new file
            os.close(fd)
        else:
            self._fd, self._place = fd, _file_id(os.fstat(fd))
        return image

    def write(self, image: Checkpoint) -> None:
        """Write `image` as the newest checkpoint.

        Raises LedgerError on failure. The file is then removed, since a restart must not continue
        from an old checkpoint after newer values were published; the next write creates a new one.
        """
        try:
            self._check_in_place()
            self._write(image)
        except (OSError, struct.error) as error:
            self._discard()
            raise self._failure("written", error) from error

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _check_in_place(self) -> None:
        """Create a new file if the open one is no longer the one at the path."""
        if self._fd is None:
            return
        try:
            place = _file_id(os.stat(self._path))
        except FileNotFoundError:
            place = None
        if place != self._place:
            log.warning(
                "journal was removed or replaced while in use; no data is lost, a new one is "
                "written in its place",
                extra={"path": self._path},
            )
            self.close()
            self._keys = None

    def _newest(self, data: bytes) -> Checkpoint | None:
        room = len(data) // SLOTS_PER_FILE
        slots = []
        for number in (0, 1):
            frame = _frame(data, _slot_offset(room, number), room)
            if frame is not None and len(frame.data) >= journal_format.SLOT_HEADER.size:
                slots.append((frame.generation, journal_format.unpack_slot(frame.data), number))
        # By generation first, since `seq` restarts with a new ledger.
        slots.sort(key=lambda each: (each[0], each[1].seq), reverse=True)
        for generation, candidate, number in slots:
            keys = _frame(data, _keys_offset(room, generation), 2 * room)
            if keys is None or (keys.crc, keys.generation) != (candidate.keys_crc, generation):
                continue
            try:
                image = journal_format.checkpoint_from(candidate, decode_key_block(keys.data))
            except UNKNOWN_FORMAT:
                continue
            self._room, self._generation, self._slot = room, generation, number
            return image
        return None

    def _write(self, image: Checkpoint) -> None:
        is_new = False
        keys = KeyBlock.of(image, self.origin)
        if not keys.same_as(self._keys):
            block = self._encoder.encode(keys)
            room = _slot_bytes_for(len(block), journal_format.slot_bytes(image))
            if self._fd is None or room > self._room:
                self._begin(room)
                is_new = True
            # A slot refers to a key block only after the block is complete. The block replaces the
            # one before the last, which only the slot that is written next still refers to.
            self._generation += 1
            self._keys_crc = self._put(_keys_offset(self._room, self._generation), block)
            self._keys = keys
        self._slot = 1 - self._slot
        self._put(
            _slot_offset(self._room, self._slot), journal_format.pack_slot(image, self._keys_crc)
        )
        if is_new:
            os.replace(self._path_of_next, self._path)

    def _begin(self, room: int) -> None:
        """Switch to a new file; it replaces the old one when it has a checkpoint."""
        self.close()
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path_of_next, flags, 0o600)
        self._place = _file_id(os.fstat(self._fd))
        self._room = room
        # Allocate all space now, so that a disk that fills up later cannot make a write fail.
        os.posix_fallocate(self._fd, 0, SLOTS_PER_FILE * room)

    def _put(self, offset: int, data: bytes) -> int:
        """Write `data` with its header; return its checksum."""
        assert self._fd is not None
        head = HEAD.pack(MAGIC, self._generation, len(data))
        crc = zlib.crc32(data, zlib.crc32(head))
        written = os.pwritev(self._fd, [CHECKSUM.pack(crc), head, data], offset)
        if written != OVERHEAD_BYTES + len(data):
            raise OSError(None, "the write was incomplete")
        return crc

    def _discard(self) -> None:
        self._keys = None
        for path in (self._path, self._path_of_next):
            with contextlib.suppress(OSError):
                os.unlink(path)
        self.close()

    def _failure(self, done: str, error: Exception) -> LedgerError:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        is_denied = isinstance(error, PermissionError)
        remedy = (is_denied and foreign_file(os.path.dirname(self._path))) or (
            "check the disk's free space and the directory's owner"
        )
        return LedgerError(
            f"journal {self._path} cannot be {done}: {reason}; until it can, counters restart at "
            f"zero after a crash; {remedy}"
        )


def newest_image(path: str) -> Checkpoint | None:
    """Return the newest complete checkpoint in a journal that may be in use by a daemon.

    None if there is none or the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return None
    return Journal(path)._newest(data)  # noqa: SLF001  of the same module


def _file_id(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _slot_bytes_for(keys_bytes: int, slot_bytes: int) -> int:
    """Return the slot size, the initial one doubled until key block and slot fit."""
    room = INITIAL_SLOT_BYTES
    while OVERHEAD_BYTES + max(keys_bytes / 2, slot_bytes) > room:
        room *= 2
    return room


def _keys_offset(room: int, generation: int) -> int:
    return generation % 2 * 2 * room


def _slot_offset(room: int, number: int) -> int:
    return (4 + number) * room


def _frame(data: bytes, start: int, room: int) -> _Frame | None:
    """Return the contents of the region at `start`; None if its header or checksum is invalid."""
    region = data[start : start + room]
    if len(region) < OVERHEAD_BYTES:
        return None
    (crc,) = CHECKSUM.unpack_from(region)
    magic, generation, length = HEAD.unpack_from(region, CHECKSUM.size)
    end = OVERHEAD_BYTES + length
    is_complete = magic == MAGIC and end <= len(region)
    if not is_complete or zlib.crc32(region[CHECKSUM.size : end]) != crc:
        return None
    return _Frame(crc, generation, region[OVERHEAD_BYTES:end])
