"""Journal: a read returns the last checkpoint, the previous one, or none."""

import errno
import json
import os
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.account import journal as module
from exporter.account import journal_format
from exporter.account.journal import INITIAL_SLOT_BYTES, SLOTS_PER_FILE, Journal
from exporter.account.journal_format import Checkpoint, CheckpointLayout, JournalOrigin
from exporter.errors import LedgerError
from exporter.model.intensity import Factor
from exporter.model.ledger import AccountKey, Amount, HostCpuTime, RunCpuTime
from exporter.model.readings import CounterState, Device, DeviceInfo, DeviceKind, Method
from exporter.model.runs import Progress, ProgressMark, RunInfo, RunKey, UnitCount
from exporter.model.workload import SplitMethod, UnattributedReason
from tests.unit.account.making import (
    GERMANY,
    backfill,
    books,
    checkpoint,
    key,
    known_run,
    position,
    run,
)

ORIGIN = JournalOrigin("ledger", "boot")


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "journal")


@pytest.fixture
def journal(path):
    made = Journal(path)
    made.origin = ORIGIN
    yield made
    made.close()


def reread(path):
    with closing(Journal(path)) as journal:
        return journal.read()


def images(count):
    """Images of one pair of books that grow, with a new run now and then."""
    made = books()
    grown = []
    for seq in range(1, count + 1):
        if seq % 3 == 1:
            known_run(made, run(f"run-{seq}"))
        backfill(made, names=(f"run-{seq // 3 * 3 + 1}",), rounds=1, seed=seq)
        grown.append(checkpoint(made, seq=seq)._replace(origin=ORIGIN))
    return grown


int64 = st.integers(-(2**63), 2**63 - 1)
positive = st.integers(0, 2**63 - 1)
texts = st.text(st.characters(), max_size=12)
finite = st.floats(allow_nan=False)
devices = st.builds(Device, st.sampled_from(DeviceKind), texts)
keys = st.builds(RunKey, st.integers(-1, 2**32), texts, texts)
factors = st.builds(Factor, texts, texts, *[finite] * 5)
lines = st.builds(
    AccountKey,
    devices,
    st.one_of(keys, st.sampled_from(UnattributedReason)),
    st.sampled_from(Method),
    st.sampled_from(SplitMethod),
)
sums = st.builds(Amount, int64, int64, int64)
marks = st.builds(ProgressMark, finite, finite, positive, positive)
runs = st.builds(
    RunInfo,
    keys,
    texts,
    texts,
    texts,
    finite,
    st.none() | finite,
    labels=st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
    budget_grams=st.none() | finite,
    enclosing=st.none() | keys,
    nodes=positive,
    units=st.lists(st.builds(UnitCount, texts, finite, finite), max_size=2).map(tuple),
    logged=st.lists(st.tuples(texts, finite | texts), max_size=2).map(tuple),
    progress=st.none()
    | st.builds(Progress, finite, marks, marks, st.lists(marks, max_size=2).map(tuple)),
)
positions = st.builds(
    CounterState,
    devices,
    positive,
    positive,
    texts,
    finite,
    positive,
    int64,
    st.none() | positive,
    positive,
    st.just(False),
    positive,
    positive,
)


@st.composite
def any_image(draw):
    rows = draw(st.lists(st.tuples(lines, sums, sums), max_size=6, unique_by=lambda row: row[0]))
    return Checkpoint(
        seq=draw(positive),
        at_ns=draw(positive),
        wall=draw(finite),
        layout=CheckpointLayout(
            lines=tuple(line for line, _, _ in rows),
            bases=tuple(base for _, base, _ in rows),
            runs=tuple(draw(st.lists(runs, max_size=3))),
            awaiting_history=tuple(draw(st.lists(keys, max_size=2))),
            backfill_id=draw(positive),
        ),
        totals=tuple(total for _, _, total in rows),
        counter_states=tuple(draw(st.lists(positions, max_size=3))),
        run_cpu=tuple(draw(st.lists(st.builds(RunCpuTime, keys, positive), max_size=3))),
        machine_cpu=draw(st.none() | st.builds(HostCpuTime, positive, positive)),
        factor=draw(st.none() | factors),
        origin=ORIGIN,
    )


def test_an_older_journal_has_no_backfill_id():
    made = journal_format.KeyBlock.of(images(1)[0], ORIGIN)
    layout, *rest = json.loads(journal_format.KeyBlockEncoder().encode(made))
    assert (layout.pop(), layout.pop()) == ([], 0)
    assert journal_format.decode_key_block(json.dumps([layout, *rest]).encode()) == made


def test_an_older_journal_has_no_marks_on_the_way():
    assert journal_format._decode_progress([4.0, [0, 1, 2, 3], [1, 2, 3, 4]]) == Progress(
        4.0, ProgressMark(0, 1, 2, 3), ProgressMark(1, 2, 3, 4)
    )


@settings(max_examples=40, deadline=None)
@given(any_image())
def test_any_checkpoint_comes_back_equal(tmp_path_factory, written):
    path = str(tmp_path_factory.mktemp("journal") / "journal")
    journal = Journal(path)
    journal.origin = ORIGIN
    journal.write(written)
    journal.close()
    assert reread(path) == written


def test_the_newest_checkpoint_is_read(journal, path):
    for each in images(8):
        journal.write(each)
        assert reread(path) == each


def test_no_file_is_no_checkpoint(path):
    assert reread(path) is None


def test_an_empty_file_is_no_checkpoint(path):
    Path(path).touch()
    assert reread(path) is None


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(LedgerError, match="cannot be read: Is a directory"):
        reread(str(tmp_path))


def test_another_process_continues_in_the_same_file(journal, path):
    first, second, third, fourth = images(4)
    journal.write(first)
    journal.write(second)
    journal.close()
    for following in (third, fourth):
        successor = Journal(path)
        successor.read()
        successor.origin = ORIGIN
        successor.write(following)
        successor.close()
        assert reread(path) == following


def test_a_successor_destroys_the_older_checkpoint_first(journal, path):
    *_, last, new = images(6)
    for each in images(6)[:5]:
        journal.write(each)
    journal.close()
    successor = Journal(path)
    successor.read()
    successor.write(new)
    successor.close()
    broken = bytearray(Path(path).read_bytes())
    start = module._slot_offset(INITIAL_SLOT_BYTES, successor._slot)
    broken[start : start + 4] = b"\xff" * 4
    Path(path).write_bytes(broken)
    assert reread(path) == last


def test_a_checkpoint_of_a_new_ledger_is_newer_though_its_seq_is_lower(journal, path):
    journal.write(images(1)[0]._replace(seq=1_000))
    journal.close()
    successor = Journal(path)
    successor.read()
    successor.origin = ORIGIN
    low = images(1)[0]
    successor.write(low)
    successor.close()
    assert reread(path) == low


@settings(max_examples=50, deadline=None)
@given(data=st.data(), count=st.integers(1, 7))
def test_any_damage_yields_an_earlier_checkpoint_or_none(tmp_path_factory, data, count):
    path = str(tmp_path_factory.mktemp("journal") / "journal")
    journal = Journal(path)
    journal.origin = ORIGIN
    written = images(count)
    for each in written:
        journal.write(each)
    journal.close()
    content = bytearray(Path(path).read_bytes())
    region = data.draw(st.sampled_from([0, 2, 4, 5]).map(lambda room: room * INITIAL_SLOT_BYTES))
    start = region + data.draw(st.integers(0, 3_000))
    noise = data.draw(st.binary(min_size=1, max_size=2_000))
    content[start : start + len(noise)] = noise
    Path(path).write_bytes(content)
    assert reread(path) in [None, *written[-2:]]


@settings(max_examples=25, deadline=None)
@given(size=st.integers(0, SLOTS_PER_FILE * INITIAL_SLOT_BYTES))
def test_a_truncated_file_yields_an_earlier_checkpoint_or_none(tmp_path_factory, size):
    path = str(tmp_path_factory.mktemp("journal") / "journal")
    journal = Journal(path)
    journal.origin = ORIGIN
    written = images(4)
    for each in written:
        journal.write(each)
    journal.close()
    os.truncate(path, size)
    assert reread(path) in [None, *written[-2:]]


@pytest.mark.parametrize("stop_after", range(60))
def test_a_write_torn_at_any_byte_leaves_the_previous_checkpoint(
    journal, path, monkeypatch, stop_after
):
    """Key block and slot of the third image are torn in turn."""
    *before, last = images(4)
    for each in before:
        journal.write(each)
    whole = os.pwritev
    budget = [stop_after * 150]

    def torn(fd, buffers, offset):
        data = b"".join(buffers)
        written = whole(fd, [data[: budget[0]]], offset)
        budget[0] -= written
        if written < len(data):
            raise KeyboardInterrupt
        return written

    monkeypatch.setattr(os, "pwritev", torn)
    try:
        journal.write(last)
    except KeyboardInterrupt:
        # What was left out may have been equal to what stood there.
        assert reread(path) in [before[-1], last]
    else:
        assert reread(path) == last


def test_the_key_block_is_written_only_when_it_changes(journal, monkeypatch):
    made = books()
    backfill(made)
    journal.write(checkpoint(made, seq=1))
    monkeypatch.setattr(journal._encoder, "encode", lambda *_: pytest.fail("written again"))
    backfill(made, seed=1)
    journal.write(checkpoint(made, seq=2, counter_states=(position(raw_uj=9, at_ns=9),)))


@pytest.mark.parametrize(
    "change",
    [
        {"counter_states": (position(epoch="driver reloaded"),)},
        {"run_cpu": (RunCpuTime(key(), 5),)},
        {"factor": GERMANY._replace(grams_per_kwh=1.0)},
        {"factor": None},
    ],
)
def test_a_change_of_the_keys_is_written(journal, path, change):
    made = books()
    journal.write(checkpoint(made, seq=1))
    changed = checkpoint(made, seq=2, **change)
    journal.write(changed)
    assert reread(path) == changed._replace(origin=ORIGIN)


LONG = "\N{GRINNING FACE}" * 8
"""32 bytes."""


def largest(count):
    """Books with runs whose labels are as many and as long as may be, and four lines each."""
    made = books()
    later = DeviceInfo(Device(DeviceKind.CPU, "package-1"), "", "", "source", 500.0)
    made.register_devices([later, later._replace(device=Device(DeviceKind.DRAM, "package-1-dram"))])
    labels = tuple((f"{number:02}{LONG}"[:10], LONG) for number in range(32))
    for number in range(count):
        run_id = f"{number:04}" + "x" * 124
        info = run(run_id, labels=labels, enclosing=key("y" * 128), cgroup="/" + "c" * 250)
        known_run(made, info._replace(name=LONG * 4))
    return made


def test_two_hundred_runs_of_the_largest_labels_fit_the_first_file(journal, path):
    written = checkpoint(
        largest(200), run_cpu=tuple(RunCpuTime(key(f"{n:04}"), n) for n in range(200))
    )
    journal.write(written)
    assert len(written.layout.lines) > 800
    assert os.path.getsize(path) == SLOTS_PER_FILE * INITIAL_SLOT_BYTES
    assert reread(path) == written._replace(origin=ORIGIN)


def outgrown(journal):
    """An image that was written, and one for which the file is too small."""
    made = books()
    first = checkpoint(made)._replace(origin=ORIGIN)
    journal.write(first)
    known_run(made, run(cgroup="x" * 5 * INITIAL_SLOT_BYTES))
    return first, checkpoint(made, seq=2)._replace(origin=ORIGIN)


def test_a_checkpoint_that_outgrows_the_file_gets_a_larger_one(journal, path):
    _, second = outgrown(journal)
    journal.write(second)
    third = second._replace(seq=3)
    journal.write(third)
    assert reread(path) == third
    assert os.path.getsize(path) == 4 * SLOTS_PER_FILE * INITIAL_SLOT_BYTES
    assert os.listdir(os.path.dirname(path)) == ["journal"]


def test_a_successor_continues_in_a_larger_file(journal, path):
    _, second = outgrown(journal)
    journal.write(second)
    journal.close()
    with closing(Journal(path)) as successor:
        inode = os.stat(path).st_ino
        successor.origin = ORIGIN
        assert successor.read() == second
        successor.write(second._replace(seq=3))
    assert reread(path) == second._replace(seq=3)
    assert os.stat(path).st_ino == inode


def test_a_crash_while_the_file_grows_leaves_the_previous_checkpoint(journal, path, monkeypatch):
    first, second = outgrown(journal)

    def crash(*_):
        raise KeyboardInterrupt

    for step in ("posix_fallocate", "pwritev", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, crash)
            with closing(Journal(path)) as successor:
                successor.origin = ORIGIN
                assert successor.read() == first
                with pytest.raises(KeyboardInterrupt):
                    successor.write(second)
        assert reread(path) == first


def test_a_disk_without_room_to_grow_leaves_no_old_checkpoint(journal, path, monkeypatch):
    first, second = outgrown(journal)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(LedgerError, match="No space left"):
            journal.write(second)
    assert os.listdir(os.path.dirname(path)) == []
    journal.write(first)
    assert reread(path) == first


def test_a_file_without_a_complete_checkpoint_is_not_continued(path):
    """What is old in it must not be found again later."""
    Path(path).write_bytes(b"\xff" * SLOTS_PER_FILE * INITIAL_SLOT_BYTES)
    with closing(Journal(path)) as successor:
        assert successor.read() is None
        inode = os.stat(path).st_ino
        successor.write(images(1)[0])
    assert os.stat(path).st_ino != inode


def test_pieces_that_stay_are_encoded_once(journal, monkeypatch):
    made = books()
    for number in range(5):
        known_run(made, run(f"run-{number}"))
    journal.write(checkpoint(made))
    encoded = []
    encode = journal_format._json
    monkeypatch.setattr(
        journal_format, "_json", lambda value: encoded.append(value) or encode(value)
    )
    known_run(made, run("new"))
    journal.write(checkpoint(made, seq=2))
    pieces = [value for value in encoded if isinstance(value, AccountKey | RunInfo)]
    assert pieces == [*(line for line in pieces[:-1] if line.target == key("new")), run("new")]


def test_a_full_disk_is_an_error_and_leaves_no_old_checkpoint(journal, path, monkeypatch):
    first, second, third = images(3)
    journal.write(first)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", full)
        with pytest.raises(LedgerError, match="No space left"):
            journal.write(second)
    assert reread(path) is None
    journal.write(third)
    assert reread(path) == third


def test_a_directory_that_cannot_be_written_is_an_error(tmp_path):
    journal = Journal(str(tmp_path / "missing" / "journal"))
    with pytest.raises(LedgerError, match="cannot be written: No such file"):
        journal.write(images(1)[0])


def test_a_key_block_of_another_version_is_no_checkpoint(journal, path, monkeypatch):
    monkeypatch.setattr(journal._encoder, "encode", lambda _: b'["of another version"]')
    journal.write(images(1)[0])
    assert reread(path) is None


@pytest.mark.parametrize("junk", [None, b"junk"])
def test_a_journal_removed_or_replaced_while_in_use_is_replaced(journal, path, caplog, junk):
    first, second = images(2)
    journal.write(first)
    Path(path).unlink()
    if junk is not None:
        Path(path).write_bytes(junk)
    journal.write(second)
    assert reread(path) == second
    assert "removed or replaced while in use" in caplog.text


def test_a_link_in_the_place_of_a_new_journal_is_not_followed(journal, path, tmp_path):
    (tmp_path / "precious").write_text("precious")
    Path(f"{path}.next").symlink_to(tmp_path / "precious")
    (image,) = images(1)
    with pytest.raises(LedgerError, match="cannot be written"):
        journal.write(image)
    assert (tmp_path / "precious").read_text() == "precious"
    journal.write(image)
    assert reread(path) == image
