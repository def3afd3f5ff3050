"""The journal: the newest image in a file, so that `kill -9` loses nothing that was shown.

It is written before each page is published and never flushed: the page cache survives the death of
a process, and a power cut makes the journal worthless anyway, since counters then begin at zero.

The file holds two key blocks (JSON: what rarely changes) and two slots (packed: what changes each
tick). Each write goes to the older of the two and leaves the newer alone, so there is a whole image
at every moment. A slot is believed if its checksum holds and it names the key block found beside.
An image that outgrows the file goes into a larger one, which takes the file's place once it is
whole.
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
"""Ends in the version of the layout; a file of another one is not read."""
INITIAL_SLOT_BYTES = 1 << 19
"""Room for a slot at first; a key block has twice as much. Enough for 200 runs with long labels."""
SLOTS_PER_FILE = 6
"""A file is two key blocks and two slots, so its size tells where they are."""

CHECKSUM = struct.Struct("<I")
HEAD = struct.Struct("<8sQI")
"""Magic, generation of the key block, length of what follows. Before it stands the checksum."""
OVERHEAD_BYTES = CHECKSUM.size + HEAD.size


class _Frame(NamedTuple):
    """What stands whole in a region of the file."""

    crc: int
    generation: int
    data: bytes


class Journal:
    """One journal file; used by one thread, and read before it is first written."""

    def __init__(self, path: str) -> None:
        self.origin = NO_ORIGIN
        """Written with every image; tells who reads it whether its totals are still good."""
        self._path = path
        self._path_of_next = f"{path}.next"
        self._fd: int | None = None
        self._place: tuple[int, int] | None = None
        """Which file is open: a path may come to name another one, or none."""
        self._room = 0
        self._encoder = KeyBlockEncoder()
        self._keys: KeyBlock | None = None
        self._keys_crc = 0
        self._generation = 0
        self._slot = 0

    def read(self) -> Checkpoint | None:
        """The newest whole image in the file, with the origin that wrote it; None if there is none.

        Raises LedgerError if the file is there and cannot be read.
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
        if image is None:  # nothing in it is worth going on in it
            os.close(fd)
        else:
            self._fd, self._place = fd, _file_id(os.fstat(fd))
        return image

    def write(self, image: Checkpoint) -> None:
        """Make `image` the newest.

        Raises LedgerError where that fails. The file is then taken away, since an old image must
        never be gone on from after a newer page was shown; the next write begins a new one.
        """
        try:
            self._check_in_place()
            self._write(image)
        except (OSError, struct.error) as error:
            self._discard()
            raise self._failure("written", error) from error

    def close(self) -> None:
        """Let go of the file; it stays."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _check_in_place(self) -> None:
        """What is written into a file that nobody can find any more is lost; begin a new one."""
        if self._fd is None:
            return
        try:
            place = _file_id(os.stat(self._path))
        except FileNotFoundError:
            place = None
        if place != self._place:
            log.warning(
                "journal %s was removed or replaced while in use; nothing is lost, a new one is "
                "written in its place",
                self._path,
            )
            self.close()
            self._keys = None

    def _newest(self, data: bytes) -> Checkpoint | None:
        room = len(data) // SLOTS_PER_FILE
        found = []
        for number in (0, 1):
            frame = _frame(data, _slot_offset(room, number), room)
            if frame is not None:
                found.append((frame.generation, journal_format.unpack_slot(frame.data), number))
        # By generation first: `seq` alone falls when a new ledger counts from the beginning.
        found.sort(key=lambda each: (each[0], each[1].seq), reverse=True)
        for generation, candidate, number in found:
            keys = _frame(data, _keys_offset(room, generation), 2 * room)
            if keys is None or (keys.crc, keys.generation) != (candidate.keys_crc, generation):
                continue
            try:
                image = journal_format.checkpoint_from(candidate, decode_key_block(keys.data))
            except (TypeError, ValueError, struct.error):  # whole, but of another version
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
            # A key block is named by a slot only after it stands whole, in the place of the one
            # before the last, which no slot needs any more but the one that is written next.
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
        """Go on in a new file; the old one stays in its place until the new one has an image."""
        self.close()
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._fd = os.open(self._path_of_next, flags, 0o600)
        self._place = _file_id(os.fstat(self._fd))
        self._room = room
        # All room is taken now, so that a disk that fills up later cannot stop a write.
        os.posix_fallocate(self._fd, 0, SLOTS_PER_FILE * room)

    def _put(self, offset: int, data: bytes) -> int:
        """Write `data` behind its checksum, which is the answer."""
        assert self._fd is not None
        head = HEAD.pack(MAGIC, self._generation, len(data))
        crc = zlib.crc32(data, zlib.crc32(head))
        written = os.pwritev(self._fd, [CHECKSUM.pack(crc), head, data], offset)
        if written != OVERHEAD_BYTES + len(data):
            raise OSError(None, "only a part could be written")
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
            f"journal {self._path} cannot be {done}: {reason}; until it can, a crash restarts the "
            f"counters at zero; {remedy}"
        )


def newest_image(path: str) -> Checkpoint | None:
    """The newest whole image in a journal that another daemon writes or wrote.

    None where there is none, or where it cannot be read.
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
    """The room with which both fit, doubled until they do."""
    room = INITIAL_SLOT_BYTES
    while OVERHEAD_BYTES + max(keys_bytes / 2, slot_bytes) > room:
        room *= 2
    return room


def _keys_offset(room: int, generation: int) -> int:
    return generation % 2 * 2 * room


def _slot_offset(room: int, number: int) -> int:
    return (4 + number) * room


def _frame(data: bytes, start: int, room: int) -> _Frame | None:
    """What was put at `start`, if it is whole."""
    region = data[start : start + room]
    if len(region) < OVERHEAD_BYTES:
        return None
    (crc,) = CHECKSUM.unpack_from(region)
    magic, generation, length = HEAD.unpack_from(region, CHECKSUM.size)
    end = OVERHEAD_BYTES + length
    is_whole = magic == MAGIC and end <= len(region)
    if not is_whole or zlib.crc32(region[CHECKSUM.size : end]) != crc:
        return None
    return _Frame(crc, generation, region[OVERHEAD_BYTES:end])
