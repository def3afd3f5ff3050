"""The daemon's own files, damaged: journal and ledger."""

import functools
import os
import shutil
import zlib
from contextlib import closing, suppress
from pathlib import Path

from exporter.account import journal as journal_file_format
from exporter.account import journal_format
from exporter.account.database import LEDGER_FILE
from exporter.account.journal import newest_image
from exporter.account.journal_format import KeyBlock, KeyBlockEncoder
from exporter.account.ledger import Ledger
from exporter.account.reading import LedgerReader
from exporter.errors import LedgerError
from exporter.model.record import GroupBy, RunFilter
from tests.fuzz.inputs import NOW, directory, file_with, parts_of
from tests.unit.account import making

EDIT_BYTES = 4
"""Of the input, the place of an edit in the ledger; the byte after it is its length."""


def journal_file(data: bytes) -> None:
    """A journal of any bytes."""
    newest_image(file_with(data, "journal"))


def journal_blocks(data: bytes) -> None:
    """A journal with valid checksums: key block, slot and generation are parts of the input."""
    keys, slot, generation = (*parts_of(data, 3), b"", b"", b"")[:3]
    number = int.from_bytes(generation[:7], "little")
    block = _frame(keys, number)
    (crc,) = journal_file_format.CHECKSUM.unpack_from(block)
    # The first number of a slot is the checksum of its key block.
    frame = _frame(journal_file_format.CHECKSUM.pack(crc) + slot[4:], number)
    room = max(len(block) // 2 + 1, len(frame))
    content = bytearray(journal_file_format.SLOTS_PER_FILE * room)
    for offset, piece in (
        (journal_file_format._keys_offset(room, number), block),
        (journal_file_format._slot_offset(room, 0), frame),
    ):
        content[offset : offset + len(piece)] = piece
    image = newest_image(file_with(bytes(content), "journal"))
    if image is None:
        return
    encoded = KeyBlockEncoder().encode(KeyBlock.of(image, image.origin))
    packed = journal_format.pack_slot(image, crc)
    again = journal_format.checkpoint_from(
        journal_format.unpack_slot(packed), journal_format.decode_key_block(encoded)
    )
    assert repr(again) == repr(image)


def _frame(data: bytes, generation: int) -> bytes:
    head = journal_file_format.HEAD.pack(journal_file_format.MAGIC, generation, len(data))
    return journal_file_format.CHECKSUM.pack(zlib.crc32(data, zlib.crc32(head))) + head + data


@functools.cache
def _sound_ledger() -> bytes:
    """Return the bytes of a ledger with some runs."""
    place = directory() / "sound"
    place.mkdir()
    books = making.used_by("bert", "gpt")
    making.backfill(books)
    with closing(Ledger(str(place), NOW)) as ledger:
        ledger.commit(making.batch(books))
    return (place / LEDGER_FILE).read_bytes()


def ledger_file(data: bytes) -> None:
    """A ledger some of whose bytes were replaced, opened by the daemon and by a reader."""
    content = bytearray(_sound_ledger())
    while len(data) > EDIT_BYTES + 1:
        at = int.from_bytes(data[:EDIT_BYTES], "little") % len(content)
        end = EDIT_BYTES + 1 + data[EDIT_BYTES] % 32
        piece = data[EDIT_BYTES + 1 : end]
        content[at : at + len(piece)] = piece
        data = data[end:]
    place = directory() / "state"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    (place / LEDGER_FILE).write_bytes(content)
    with suppress(LedgerError):
        _read(place)
    with suppress(LedgerError), closing(Ledger(str(place), NOW)) as ledger:
        ledger.restore([making.key("bert"), making.key("other")])
        ledger.unconverted(NOW)
        ledger.quick_check()
        books = making.used_by("bert")
        making.backfill(books, names=("bert",))
        ledger.commit(making.batch(books, seq=2))
        ledger.prune(NOW, 1, 1)
    assert os.listdir(place)


def _read(place: Path) -> None:
    with closing(LedgerReader(str(place), "node")) as reader:
        assert reader.committed_until != 0
        reader.sums(GroupBy.USER, 0.0, RunFilter(), ())
        reader.usage(0.0, NOW)
        reader.runs(100)
        for key in reader.run_keys():
            reader.record(key)


TARGETS = (journal_file, journal_blocks, ledger_file)
