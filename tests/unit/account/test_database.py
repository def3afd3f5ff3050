"""Values at the limits of SQLite are stored and read unchanged."""

import math
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.account.database import (
    ESCAPE_PREFIX,
    LedgerConnection,
    from_sqlite,
    lock,
    to_sqlite,
)
from exporter.errors import LedgerError

texts = st.text(st.characters() | st.sampled_from(["\ud800", "\udfff", "\\", ESCAPE_PREFIX, "\0"]))


@pytest.fixture(scope="module")
def connection():
    with closing(LedgerConnection(":memory:")) as made:
        made.execute("CREATE TABLE t (text TEXT, number REAL)")
        yield made


@given(texts)
def test_any_text_comes_back(connection, text):
    assert connection.execute("SELECT ?", (text,)).fetchone() == (text,)


def test_rows_come_back(connection):
    connection.executemany("INSERT INTO t VALUES (?, ?)", [("\ud800", 1.5), ("plain", math.inf)])
    rows = connection.execute("SELECT * FROM t").fetchall()
    assert rows == [("\ud800", 1.5), ("plain", math.inf)]


def test_common_text_is_stored_as_it_is():
    assert [to_sqlite(text) for text in ("bert", "caf\xe9", "")] == ["bert", "caf\xe9", ""]


def test_a_lone_surrogate_can_be_read_by_people():
    assert to_sqlite("caf\ud800") == f"{ESCAPE_PREFIX}caf\\ud800"


def test_what_is_not_a_number_is_stored_as_0():
    assert to_sqlite(math.nan) == 0.0


def test_damaged_text_is_read_as_far_as_possible():
    assert from_sqlite(b"be\xfft") == f"be{ESCAPE_PREFIX}t"


def test_values_may_be_named(connection):
    values = {"a": "\ud800", "b": 2}
    assert connection.execute("SELECT :b, :a", values).fetchone() == (2, "\ud800")


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(LedgerError, match="symbolic links"):
        lock(str(tmp_path / "state"))
    assert (tmp_path / "precious").read_text() == "precious"
