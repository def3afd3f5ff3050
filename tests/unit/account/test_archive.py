"""Queries of the ledger: records, sums and usage."""

import threading
from contextlib import closing

import pytest

from exporter.account.archive import LedgerArchive
from exporter.errors import LedgerError
from exporter.model.ledger import sum_amounts
from exporter.model.record import ANY_RUN, GroupBy, RunCursor, RunFilter
from exporter.model.record_document import record_to_json
from exporter.model.runs import SLURM, RunKey
from exporter.report import quantities
from tests.unit.account.making import (
    CPU,
    FRANCE,
    GERMANY,
    GPU,
    SECOND,
    WALL,
    backfill,
    batch,
    books,
    entry,
    key,
    known_run,
    opened,
    path_in,
    posting,
    run,
    used_by,
)


@pytest.fixture
def archive(tmp_path):
    """Three runs, the first of which left the page."""
    made = books()
    infos = [run(name, started=WALL + at) for at, name in enumerate(["bert", "gpt", "clip"])]
    for info in infos:
        known_run(made, info)
    backfill(made, names=("bert", "gpt"))
    with closing(opened(tmp_path)) as ledger:
        ledger.commit(batch(made)._replace(departed=(infos[0].key,)))
        yield LedgerArchive(path_in(tmp_path), "node-1")


def test_runs_are_listed_newest_first(archive):
    assert [record.run.name for record in archive.runs(10)] == ["clip", "gpt", "bert"]


def test_no_more_runs_are_listed_than_requested(archive):
    assert [record.run.name for record in archive.runs(1)] == ["clip"]


def test_a_run_is_found_by_its_shown_id(archive):
    assert [record.run.name for record in archive.runs(9, RunFilter("bert"))] == ["bert"]


def test_runs_that_began_inside_another_are_found_by_its_id(tmp_path):
    made = books()
    outer = run("sweep")
    inner = [run(name)._replace(enclosing=outer.key) for name in ("lr-1", "lr-2")]
    deepest = run("fit")._replace(enclosing=inner[0].key)
    for info in (outer, *inner, deepest):
        known_run(made, info)
    with closing(opened(tmp_path)) as ledger:
        ledger.commit(batch(made))
        archive = LedgerArchive(path_in(tmp_path), "node-1")
        found = archive.runs(9, RunFilter(inside=outer.key))
    assert sorted(record.run.name for record in found) == ["lr-1", "lr-2"]
    assert {record_to_json(record)["inside"] for record in found} == {"sweep"}


def test_runs_inside_runs_of_two_users_with_one_id_stay_apart(tmp_path):
    made = books()
    ada, eve = RunKey(1000, "sweep", "job"), RunKey(1001, "sweep", "job")
    for name, outer, shown_id in (("ada", ada, "sweep"), ("eve", eve, "sweep@1001")):
        known_run(made, run("sweep")._replace(key=outer, shown_id=shown_id, user=name))
        inner = RunKey(outer.uid, f"lr-{name}", "job")
        known_run(made, run()._replace(key=inner, shown_id=inner.run_id, enclosing=outer))
    with closing(opened(tmp_path)) as ledger:
        ledger.commit(batch(made))
        archive = LedgerArchive(path_in(tmp_path), "node-1")
        found = {
            outer: [
                (each.run.shown_id, each.inside)
                for each in archive.runs(9, RunFilter(inside=outer))
            ]
            for outer in (ada, eve)
        }
    assert found == {ada: [("lr-ada", "sweep")], eve: [("lr-eve", "sweep@1001")]}


def test_an_unknown_id_finds_nothing(archive):
    assert list(archive.runs(9, RunFilter("nobody"))) == []


def test_the_fixed_parties_are_no_runs(archive):
    assert {record.run.name for record in archive.runs(99)} == {"bert", "clip", "gpt"}


def test_parts_and_factors_of_a_record_have_the_same_sum(archive):
    (record,) = archive.runs(9, RunFilter("gpt"))
    assert record.energy_uj == sum(use.energy_uj for use in record.factors) > 0
    assert record.carbon_ng == sum(use.carbon_ng for use in record.factors)


def test_a_record_is_as_of_the_last_commit(archive):
    (record,) = archive.runs(9, RunFilter("gpt"))
    assert (record.at, record.node) == (WALL + 1, "node-1")


def test_another_thread_may_read(archive):
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
    (record,) = archive.runs(9, RunFilter("gpt"))
    spells = archive.usage(0, WALL + 7_200, record.run.key, by_hour=by_hour)
    assert {spell.run for spell in spells} == {record.run.key}
    assert sum(spell.amount.energy_uj for spell in spells) == record.energy_uj > 0


def test_usage_outside_of_the_requested_time_is_excluded(archive):
    found = archive.usage(0, WALL + 7_200)
    first, last = found[0].at, found[-1].at
    assert len(archive.usage(first, last + 60)) == len(found)
    assert not archive.usage(0, first)
    assert not archive.usage(last + 60, WALL + 7_200)


MANY = 2_500


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """More runs than are listed at once, of three users, some begun in the same moment."""
    made = books()
    infos = []
    for number in range(MANY):
        infos.append(
            run(
                f"run-{number}",
                user=f"user-{number % 3}",
                started=WALL + number // 4,
                ended=None if number == 7 else WALL + number,
                labels=(("group", "sweep"),) if number % 5 == 0 else (),
                namespace=("", "a", "b", "c")[number % 4],
                account=("", "nlp", "vision")[number % 3],
                enclosing=key(f"run-{number - 12}") if number % 7 == 0 and number > 12 else None,
            )
        )
        known_run(made, infos[-1])
    backfill(made, names=[info.key.run_id for info in infos[:90]], rounds=5)
    directory = tmp_path_factory.mktemp("full")
    with closing(opened(directory)) as ledger:
        ledger.commit(batch(made))
        yield LedgerArchive(path_in(directory), "node-1"), infos


def amounts(parts):
    return sum_amounts(part.amount for part in parts)


@pytest.mark.parametrize("by", list(GroupBy))
@pytest.mark.parametrize("since", [0.0, WALL + 5.0])
@pytest.mark.parametrize(
    "wanted",
    [ANY_RUN, RunFilter(user="user-1"), RunFilter(group="sweep"), RunFilter(namespace="b")],
)
def test_sums_are_those_of_all_runs_however_many(full, by, since, wanted):
    archive, infos = full
    excluded = [infos[3].key, infos[40].key, RunKey(9, "unknown", "")]
    names = {
        GroupBy.JOB: lambda info: info.key.job_id,
        GroupBy.USER: lambda info: info.user,
        GroupBy.GROUP: lambda info: dict(info.labels).get("group", ""),
        GroupBy.NAMESPACE: lambda info: info.namespace,
        GroupBy.ACCOUNT: lambda info: info.account,
    }
    expected = {}
    for record in archive.runs(MANY, wanted):
        if record.run.started >= since and record.run.key not in excluded:
            expected.setdefault(names[by](record.run), []).append(record)
    found = {each.name: each for each in archive.sums(by, since, wanted, excluded)}
    assert found.keys() == expected.keys()
    for name, records in expected.items():
        one = found[name]
        ends = [record.run.ended for record in records]
        parts = [part for record in records for part in record.parts]
        assert one.runs == len(records)
        assert one.started == min(record.run.started for record in records)
        assert one.ended == (None if None in ends else max(ends))
        names_here = {record.run.key for record in records}
        assert one.run_seconds == sum(
            max((record.run.ended or record.at) - record.run.started, 0)
            for record in records
            if record.run.enclosing not in names_here
        )
        assert one.users == tuple(sorted({record.run.user for record in records}))
        assert one.nodes == ("node-1",)
        assert amounts(one.parts) == amounts(parts)
        for part in one.parts:
            assert part.amount == amounts(p for p in parts if p[:3] == part[:3])
        uses = [use for record in records for use in record.factors]
        assert sum(u.energy_uj for u in one.factors) == sum(u.energy_uj for u in uses)
        assert sum(u.carbon_ng for u in one.factors) == sum(u.carbon_ng for u in uses)


def test_runs_of_a_namespace_are_all_of_those_and_no_other(full):
    archive, infos = full
    found = {record.run.key for record in archive.runs(MANY, RunFilter(namespace="b"))}
    assert found == {info.key for info in infos if info.namespace == "b"}
    assert len(found) == MANY // 4


def test_sums_have_energy(full):
    archive, _ = full
    assert (
        sum(amounts(each.parts).energy_uj for each in archive.sums(GroupBy.USER, 0.0, ANY_RUN, ()))
        > 0
    )


def test_sums_say_how_many_slurm_jobs_were_not_visible(tmp_path):
    """As the record of each of these jobs does."""
    seconds = {"seen": 60, "unseen": 60, "short": 59, "gpu": 600, "open": None, "no parts": 600}
    made = books()
    for name, lasted in seconds.items():
        ended = lasted and WALL + lasted
        known_run(made, run(name, origin=SLURM, started=WALL, ended=ended))
    known_run(made, run("registered", started=WALL, ended=WALL + 600))
    energies = {
        CPU: {"seen": 1, "unseen": 0, "short": 0, "gpu": 0, "open": 0, "registered": 0},
        GPU: {"unseen": 0, "gpu": 9},
    }
    for device, used in energies.items():
        entries = [entry(run(name).key, uj, device=device) for name, uj in used.items()]
        made.post([posting(*entries)], SECOND)
    with closing(opened(tmp_path)) as ledger:
        for seq, wall in ((1, WALL + 59), (2, WALL + 60)):
            ledger.commit(batch(made, seq)._replace(wall=wall))
            archive = LedgerArchive(path_in(tmp_path), "node-1")
            unseen = {
                each.run.name
                for each in archive.runs(99)
                if quantities.unseen_runs(record_to_json(each))
            }
            (total,) = archive.sums(GroupBy.USER, 0.0, ANY_RUN, ())
            assert unseen == {"unseen", "gpu", *(["open"] if seq == 2 else [])}
            assert (total.unseen_runs, total.runs) == (len(unseen), 7)


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_pages_have_each_run_once(full, size):
    archive, infos = full
    found, after = [], None
    while page := archive.runs(size, RunFilter(user="user-1") if size == 1 else ANY_RUN, after):
        found += [record.run.key for record in page]
        after = RunCursor.of(page[-1].run)
        if len(found) > 40 * size:
            break
    assert len(found) == len(set(found))
    if size == 1_000:
        assert set(found) == {info.key for info in infos}


def test_a_sum_has_one_intensity_for_each_source_which_is_the_mean(tmp_path):
    later = GERMANY._replace(grams_per_kwh=500.0, valid_from=3600.0)
    made = used_by("bert", "gpt")
    uses = [("bert", 3, GERMANY), ("gpt", 1, later), ("gpt", 2, FRANCE), ("bert", 5, None)]
    for name, joules, factor in uses:
        made.post([posting(entry(key(name), joules * 10**6, factor=factor))], SECOND)
    with closing(opened(tmp_path)) as ledger:
        ledger.commit(batch(made))
    (total,) = LedgerArchive(path_in(tmp_path), "node-1").sums(GroupBy.USER, 0.0, ANY_RUN, ())
    found = {use.factor and use.factor.zone: use for use in total.factors}
    assert {zone: use.energy_uj for zone, use in found.items()} == {
        "DE": 4 * 10**6,
        "FR": 2 * 10**6,
        None: 5 * 10**6,
    }
    assert found["DE"].factor == later._replace(grams_per_kwh=(3 * 380 + 500) / 4, valid_from=0.0)
    assert found["FR"].factor == FRANCE
