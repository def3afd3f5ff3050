"""Receipts of every run that the ledger knows."""

import threading
from contextlib import closing

import pytest

from exporter.account.archive import LedgerArchive
from exporter.errors import LedgerError
from exporter.model.record import Wanted
from tests.unit.account.making import (
    WALL,
    batch,
    books,
    fill,
    known_run,
    opened,
    path_in,
    run,
)


@pytest.fixture
def archive(tmp_path):
    """Three runs, the first of which left the page."""
    made = books()
    infos = [run(name, started=WALL + at) for at, name in enumerate(["bert", "gpt", "clip"])]
    for info in infos:
        known_run(made, info)
    fill(made, names=("bert", "gpt"))
    with closing(opened(tmp_path)) as ledger:
        ledger.commit(batch(made)._replace(departed=(infos[0].key,)))
        yield LedgerArchive(path_in(tmp_path), "node-1")


def test_runs_are_listed_newest_first(archive):
    assert [record.run.name for record in archive.runs(10)] == ["clip", "gpt", "bert"]


def test_no_more_runs_are_listed_than_asked_for(archive):
    assert [record.run.name for record in archive.runs(1)] == ["clip"]


def test_a_run_is_found_by_the_id_that_is_shown(archive):
    assert [record.run.name for record in archive.runs(9, Wanted("bert"))] == ["bert"]


def test_an_unknown_id_finds_nothing(archive):
    assert list(archive.runs(9, Wanted("nobody"))) == []


def test_the_fixed_parties_are_no_runs(archive):
    assert {record.run.name for record in archive.runs(99)} == {"bert", "clip", "gpt"}


def test_parts_and_factors_of_a_record_have_the_same_sum(archive):
    (record,) = archive.runs(9, Wanted("gpt"))
    assert record.energy_uj == sum(use.energy_uj for use in record.factors) > 0
    assert record.carbon_ng == sum(use.carbon_ng for use in record.factors)


def test_a_record_is_as_of_the_last_commit(archive):
    (record,) = archive.runs(9, Wanted("gpt"))
    assert (record.at, record.node) == (WALL + 1, "node-1")


def test_another_thread_may_ask(archive):
    names = []
    thread = threading.Thread(target=lambda: names.extend(r.run.name for r in archive.runs(9)))
    thread.start()
    thread.join()
    assert names == ["clip", "gpt", "bert"]


def test_a_missing_file_is_an_error_and_none_is_made(tmp_path):
    with pytest.raises(LedgerError, match="unable to open"):
        LedgerArchive(path_in(tmp_path), "node-1").runs(1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("by_hour", [False, True])
def test_usage_of_one_run_is_what_its_record_has(archive, by_hour):
    (record,) = archive.runs(9, Wanted("gpt"))
    spells = archive.usage(0, WALL + 7_200, record.run.key, by_hour=by_hour)
    assert {spell.run for spell in spells} == {record.run.key}
    assert sum(spell.amount.energy_uj for spell in spells) == record.energy_uj > 0


def test_usage_outside_of_the_time_that_is_asked_for_is_left_out(archive):
    found = archive.usage(0, WALL + 7_200)
    first, last = found[0].at, found[-1].at
    assert len(archive.usage(first, last + 60)) == len(found)
    assert not archive.usage(0, first)
    assert not archive.usage(last + 60, WALL + 7_200)
