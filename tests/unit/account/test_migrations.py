"""Ledgers of older exporters: tables that were STRICT become tables that any SQLite can read.

The ledgers are dumps of what those exporters wrote. SQLite before 3.37 cannot make them: run with
such a one, the tests take the files of the directory STRICT_LEDGERS, which a newer one has made.
"""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from exporter.account import database
from exporter.account.database import NEWER_SQLITE, sqlite_errors
from exporter.errors import LedgerError
from tests.unit.account.making import (
    GPU,
    MINUTE,
    WALL,
    batch,
    books,
    key,
    known_run,
    opened,
    path_in,
    query,
    run,
)
from tests.unit.account.making import backfill as use

USER_VERSION = slice(60, 64)
"""In the header of a database file: https://www.sqlite.org/fileformat.html."""
VERSIONS = [1, 2, 3]
LEDGERS = Path(__file__).parent / "ledgers"


def write_strict(version, path):
    with closing(sqlite3.connect(path)) as made:
        made.executescript((LEDGERS / f"schema-{version}.sql").read_text())


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture
def strict(version, tmp_path):
    """A state directory with a ledger whose tables are STRICT."""
    directory = tmp_path / "state"
    directory.mkdir()
    if sqlite3.sqlite_version_info >= (3, 37):
        write_strict(version, path_in(directory))
    elif "STRICT_LEDGERS" in os.environ:
        made = Path(os.environ["STRICT_LEDGERS"]) / f"schema-{version}.sqlite"
        shutil.copy(made, path_in(directory))
    else:
        pytest.skip("SQLite before 3.37 cannot make STRICT tables, and STRICT_LEDGERS is not set")
    return directory


@pytest.fixture
def ledger(tmp_path):
    with closing(opened(tmp_path / "new")) as made:
        yield made


def schema_of(ledger):
    found = query(ledger, "SELECT type, name, sql FROM sqlite_master ORDER BY type, name")
    return [(kind, name, "".join((sql or "").split())) for kind, name, sql in found]


def dumped(statement, version):
    """What a dump has after a statement."""
    lines = (LEDGERS / f"schema-{version}.sql").read_text().splitlines()
    return [line.removeprefix(statement) for line in lines if line.startswith(statement)]


def test_the_recorded_ledgers_are_strict():
    for version in VERSIONS:
        assert (LEDGERS / f"schema-{version}.sql").read_text().count(" STRICT") >= 9


def test_strict_tables_are_declared_as_in_a_new_ledger(strict, ledger):
    with closing(opened(strict)) as found:
        assert schema_of(found) == schema_of(ledger)
        assert query(found, "PRAGMA user_version") == query(ledger, "PRAGMA user_version")
        assert found.notes == ()


def test_every_amount_and_run_of_a_strict_ledger_is_kept(strict, version):
    with closing(opened(strict)) as found:
        for table in ("usage", "total", "factor_use"):
            rows = [f"({','.join(map(str, r))});" for r in query(found, f"SELECT * FROM {table}")]
            assert sorted(rows) == sorted(dumped(f'INSERT INTO "{table}" VALUES', version))
        assert found.quick_check() == ""
        restored = found.restore().restored
        assert [info.key for info in restored.runs] == [key("bert")]
        assert dict(restored.runs[0].labels) == {"group": "nlp", "team": "caf\ud800"}
        assert found.stored_run(key("gpt")).info.ended == WALL + 60
        assert restored.floors == {GPU: 21.5}
        assert [position.uncounted for position in restored.counter_states] == [False, False]


def test_a_ledger_is_copied_before_it_is_migrated(strict, version, tmp_path):
    with closing(opened(strict)):
        pass
    copy = Path(f"{path_in(strict)}.schema-{version}")
    assert copy.stat().st_mode & 0o777 == 0o600
    assert int.from_bytes(copy.read_bytes()[USER_VERSION]) == version
    if sqlite3.sqlite_version_info >= (3, 37):  # others cannot read it
        with closing(sqlite3.connect(copy)) as read:
            is_clean = read.execute("SELECT clean FROM meta").fetchone()
        assert is_clean == (0,), "an older exporter would continue its counters"
    restored = tmp_path / "restored"
    restored.mkdir()
    shutil.copy(copy, path_in(restored))
    with closing(opened(restored)) as found:
        for table in ("usage", "total"):
            rows = [f"({','.join(map(str, r))});" for r in query(found, f"SELECT * FROM {table}")]
            assert sorted(rows) == sorted(dumped(f'INSERT INTO "{table}" VALUES', version))
    assert {path.name for path in strict.iterdir()} >= {copy.name}
    assert not [path for path in strict.iterdir() if ".new" in path.name]


def test_a_ledger_that_cannot_be_copied_is_migrated_with_a_warning(
    strict, version, ledger, monkeypatch, caplog
):
    monkeypatch.setattr("exporter.account.database.os.replace", _full)
    with closing(opened(strict)) as found:
        assert schema_of(found) == schema_of(ledger)
    assert "without a copy" in caplog.text
    assert [path for path in strict.iterdir() if "schema-" in path.name] == []


def _full(*_):
    raise OSError(28, "No space left on device")


def test_a_ledger_of_the_newest_schema_is_not_copied(tmp_path):
    for _ in range(2):
        with closing(opened(tmp_path)):
            pass
    assert [path for path in tmp_path.iterdir() if "schema-" in path.name] == []


def test_an_older_exporter_names_the_copy_to_restore(strict, version, monkeypatch):
    with closing(opened(strict)):
        pass
    scripts = database._scripts()
    monkeypatch.setattr(database, "_scripts", lambda: scripts[:version])
    with pytest.raises(LedgerError, match=rf"or restore .*ledger\.sqlite\.schema-{version}"):
        opened(strict)


def test_a_strict_ledger_continues_to_be_written(strict):
    with closing(opened(strict)) as found:
        restored = found.restore().restored
        made = books(restored)
        known_run(made, run("clip"))
        use(made, names=("bert", "clip"))
        found.commit(batch(made, restored.seq + 1))
        totals = query(found, "SELECT count(*), sum(energy_uj) FROM total")
        found.prune(WALL + 400 * 86_400, 30.0, 800.0)
    with closing(opened(strict)) as again:
        assert query(again, "SELECT count(*), sum(energy_uj) FROM total") == totals
        assert {info.key for info in again.restore().restored.runs} == {key("bert"), key("clip")}


def test_a_strict_ledger_that_was_killed_over_a_commit_has_its_commit(strict, tmp_path):
    """Its last pages are in the file beside it."""
    killed = tmp_path / "killed"
    killed.mkdir()
    with closing(sqlite3.connect(path_in(strict), isolation_level=None)) as writer:
        writer.execute("PRAGMA writable_schema = ON")  # an old SQLite reads on past STRICT
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("UPDATE meta SET seq = 77")
        for suffix in ("", "-wal"):
            shutil.copy(path_in(strict) + suffix, path_in(killed) + suffix)
    with closing(opened(killed)) as found:
        assert found.restore().restored.seq == 77


def test_a_kill_between_two_steps_of_the_migration_is_repaired(strict, ledger, monkeypatch):
    monkeypatch.setattr("exporter.account.database.LAST_STRICT_VERSION", 99)
    for _ in range(2):  # the second finds tables that are declared anew, of a version that was not
        with closing(opened(strict)) as found:
            assert schema_of(found) == schema_of(ledger)


def test_a_strict_ledger_with_a_table_of_somebody_else_is_not_changed(strict):
    with closing(sqlite3.connect(path_in(strict), isolation_level=None)) as other:
        other.execute("PRAGMA writable_schema = ON")
        other.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'pue ', 'pew ') WHERE name = 'factor'"
        )
    before = Path(path_in(strict)).read_bytes()
    with pytest.raises(LedgerError, match="table factor is not that of this exporter"):
        opened(strict)
    assert Path(path_in(strict)).read_bytes() == before


@pytest.mark.parametrize("value", [1.5, "much", b"12", 9e18 * 10, None])
def test_an_amount_is_a_whole_number_in_every_ledger(strict, ledger, value):
    with closing(opened(strict)) as found:
        made = books()
        known_run(made, run())
        use(made, names=("bert",))
        ledger.commit(batch(made))
        for each in (found, ledger):
            for column in ("total.energy_uj", "usage.held_uj", "position.raw_uj"):
                table, name = column.split(".")
                with pytest.raises(sqlite3.IntegrityError):
                    each._connection.execute(f"UPDATE {table} SET {name} = ?", (value,))


def test_a_sum_beyond_64_bits_is_refused(ledger):
    made = books()
    known_run(made, run())
    use(made, names=("bert",))
    ledger.commit(batch(made))
    with pytest.raises(sqlite3.IntegrityError):
        query(ledger, f"UPDATE total SET energy_uj = energy_uj + {2**63 - 1}")


def test_a_result_that_is_a_text_of_digits_stays_a_text(strict):
    info = run("clip", logged=(("note", "012"), ("score", 0.5)))
    with closing(opened(strict)) as found:
        made = books(found.restore().restored)
        known_run(made, info)
        found.commit(batch(made, 9))
        assert found.stored_run(key("clip")).info.logged == (("note", "012"), ("score", 0.5))


def test_a_declaration_that_is_damaged_is_damage_and_no_version(tmp_path):
    directory = tmp_path / "state"
    opened(directory).close()
    path = Path(path_in(directory))
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE label (", b"CREATE TABLE label ,"))
    with closing(opened(directory)) as found:
        found.restore()
        assert "renamed to" in found.notes[0]


def test_minutes_without_carbon_are_found_in_a_strict_ledger(strict):
    with closing(opened(strict)) as found:
        assert found.unconverted(WALL)[-1] == MINUTE + 2


def test_an_sqlite_that_is_too_old_is_named_and_nothing_is_moved(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 25, 3))
    with pytest.raises(LedgerError, match=r"SQLite .* is too old.*at least 3\.26") as caught:
        opened(tmp_path / "state")
    assert "move" not in str(caught.value)
    assert not Path(path_in(tmp_path / "state")).exists()


def test_a_statement_that_sqlite_does_not_know_is_no_fault_of_the_file():
    with (
        pytest.raises(LedgerError, match=NEWER_SQLITE.partition(",")[0]) as caught,
        sqlite_errors("/state/ledger.sqlite"),
        closing(sqlite3.connect(":memory:")) as connection,
    ):
        connection.execute("SELECT 1 BORROWING id")
    assert "move" not in str(caught.value)


def test_a_ledger_without_room_to_be_migrated_needs_space():
    """The exporter does not start then, so no totals are kept in memory."""
    with (
        pytest.raises(LedgerError, match="free space on its disk; a running exporter"),
        sqlite_errors("/state/ledger.sqlite"),
        closing(sqlite3.connect(":memory:")) as connection,
    ):
        connection.executescript("PRAGMA max_page_count = 1; CREATE TABLE one (two)")
