"""Opening, ending, reopening, merging and capping of runs."""

import copy
import operator

from hypothesis import given
from hypothesis import strategies as st

from exporter.attribute.run_registry import MAX_NAMES, OTHER_RUN, RunRegistry
from exporter.model.commands import LogRun
from exporter.model.runs import Progress, ProgressMark, RunInfo, RunKey, UnitCount, with_stored_run


def info(run_id: str, uid: int = 1, job_id: str = "", started: float = 10.0) -> RunInfo:
    return RunInfo(RunKey(uid, run_id, job_id), "", "ada", "registered", started)


def test_a_run_that_comes_back_keeps_its_first_start():
    book = RunRegistry([], 9)
    book.open(info("a", started=10))
    book.close(info("a").key, 20, "ended")
    again = book.open(info("a", started=30))
    assert (again.started, again.ended) == (10, None)


def test_the_second_user_of_an_id_is_shown_with_the_uid():
    book = RunRegistry([], 9)
    assert book.open(info("a", uid=1)).shown_id == "a"
    assert book.open(info("a", uid=2)).shown_id == "a@2"


def test_a_shown_id_cannot_be_taken_by_another_run():
    book = RunRegistry([], 9)
    book.open(info("a@2", uid=1))
    book.open(info("a", uid=1))
    assert book.open(info("a", uid=2)).shown_id == "a@2@2"


def test_an_inner_run_inherits_the_job_id_of_the_outer_run():
    book = RunRegistry([], 9)
    outer = book.open(info("outer", job_id="j"))
    inner = book.open(info("inner"), outer.key)
    assert inner.key.job_id == "j"
    assert inner.enclosing == outer.key


def test_inner_runs_of_an_ended_run_move_to_its_outer_run():
    book = RunRegistry([], 9)
    outer = book.open(info("outer"))
    middle = book.open(info("middle"), outer.key)
    inner = book.open(info("inner"), middle.key)
    assert [run.key for run in book.innermost_first()] == [inner.key, middle.key, outer.key]
    book.close(middle.key, 20, "ended")
    assert book.get(inner.key).enclosing == outer.key


def test_two_runs_of_one_user_are_not_shown_under_one_id():
    book = RunRegistry([], 9)
    book.open(info("a", uid=1))
    book.open(info("a", uid=2))
    assert book.open(info("a@2", uid=2)).shown_id == "a@2@2"


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.sampled_from(["a", "a@2", "a@2@2"]), st.sampled_from("xy"))
    )
)
def test_a_shown_id_is_unique(wanted):
    book = RunRegistry([], 99)
    for uid, run_id, job_id in wanted:
        book.open(info(run_id, uid, job_id))
    shown = [(run.shown_id, run.key.job_id) for run in book.visible()]
    assert len(set(shown)) == len(shown)


def test_an_id_refers_to_the_run_with_this_shown_id():
    book = RunRegistry([], 9)
    book.open(info("a", uid=1))
    other = book.open(info("a", uid=2))
    book.open(info("a@2", uid=2))
    assert book.find(2, "a@2", None) == other


def test_beyond_the_cap_new_runs_are_folded_into_other_and_counted():
    book = RunRegistry([], 1)
    book.open(info("a"))
    assert book.open(info("b")).key == OTHER_RUN
    assert book.open(info("c")).key == OTHER_RUN
    assert book.dropped == 2
    assert book.open(info("a")).key == info("a").key


def test_an_ended_run_leaves_the_page_only_after_its_time():
    book = RunRegistry([], 9)
    book.open(info("a"))
    book.close(info("a").key, 100, "ended")
    assert book.pop_expired(199, 100) == []
    assert book.pop_expired(200, 100) == [info("a").key]
    assert book.visible() == ()


def cached_lists(book):
    return book.running(), book.innermost_first(), book.visible()


def identify(book, run, other):
    if book.has(run.key) and run.key != other.key:
        book.identify(run.key, other)


def if_open(change):
    return lambda book, run, *more: change(book, run, *more) if book.is_open(run.key) else None


CHANGES = {
    "open": lambda book, run, _: book.open(run),
    "open inside": lambda book, run, other: (
        book.open(run, other.key) if book.is_open(other.key) else None
    ),
    "close": if_open(lambda book, run, other: book.close(run.key, other.started, "ended")),
    "log": if_open(
        lambda book, run, _: book.log_results(LogRun(1, "", values=(("loss", 1.0),)), run.key, HERE)
    ),
    "identify": if_open(identify),
    "hide": lambda book, run, _: book.hide(run.key),
    "reveal": lambda book, run, _: book.reveal(run.key),
    "merge": lambda book, _, __: [book.drop(merge) for merge in book.merges()],
    "expire": lambda book, run, _: book.pop_expired(run.started, 5),
    "names": lambda book, _, __: book.fill_user_names(str),
}
RUNS = st.builds(info, st.sampled_from("abc"), started=st.integers(0, 20))


@given(st.lists(st.tuples(st.sampled_from(sorted(CHANGES)), RUNS, RUNS), max_size=20))
def test_lists_of_runs_are_up_to_date_after_every_change(changes):
    book = RunRegistry([], 2)
    for name, run, other in changes:
        CHANGES[name](book, run, other)
        again = copy.copy(book)
        again._forget_lists()
        assert cached_lists(book) == cached_lists(again)


def test_lists_without_a_change_are_the_same_objects():
    book = RunRegistry([], 9)
    book.open(info("a"))
    assert all(map(operator.is_, cached_lists(book), cached_lists(book)))


def test_changes_are_reported_once():
    book = RunRegistry([], 9)
    run = book.open(info("a"))
    assert book.pop_changes() == [run]
    assert book.pop_changes() == []
    assert book.pop_opened() == [run.key]
    assert book.pop_opened() == []


def test_reserved_names_cannot_be_used():
    assert RunRegistry([], 9).open(info("other", uid=7)).shown_id == "other@7"


def test_at_the_cap_the_run_that_ended_first_makes_room():
    book = RunRegistry([], 2)
    for run_id, ended in (("a", 30), ("b", 20)):
        book.open(info(run_id))
        book.close(info(run_id).key, ended, "ended")
    assert book.open(info("c")).shown_id == "c"
    assert book.pop_expired(40, 900) == [info("b").key]
    assert book.pop_expired(40, 900) == []
    assert {run.shown_id for run in book.visible()} == {"a", "c"}


def test_a_wall_clock_that_was_set_back_keeps_no_run_on_the_page():
    book = RunRegistry([], 9)
    book.open(info("a"))
    book.close(info("a").key, 100_000, "ended")
    assert book.pop_expired(100_000 - 86_400, 900) == [info("a").key]


HERE = ProgressMark(done=1.0, at=50.0, energy_uj=7, carbon_ng=70)


def said(**more):
    return LogRun(1, "a", **more)


class TestWhatARunSaysOfItself:
    def test_counts_add_up_and_results_replace_each_other(self):
        book = RunRegistry([], 9)
        key = book.open(info("a")).key
        book.log_results(said(counts=(("tokens", 2.0),), values=(("loss", 0.5),)), key, HERE)
        run = book.log_results(said(counts=(("tokens", 3.0),), values=(("loss", 0.25),)), key, HERE)
        assert run.units == (UnitCount("tokens", 5.0),)
        assert run.logged == (("loss", 0.25),)

    def test_changes_are_returned(self):
        book = RunRegistry([], 9)
        key = book.open(info("a")).key
        book.pop_changes()
        run = book.log_results(said(counts=(("tokens", 2.0),)), key, HERE)
        assert book.pop_changes() == [run]

    def test_names_are_limited_and_existing_ones_are_updated(self):
        book = RunRegistry([], 9)
        key = book.open(info("a")).key
        many = tuple((f"unit{n}", 1.0) for n in range(MAX_NAMES + 5))
        book.log_results(said(counts=many, values=many), key, HERE)
        run = book.log_results(said(counts=many, values=many), key, HERE)
        assert len(run.units) == len(run.logged) == MAX_NAMES
        assert run.units[0].amount == 2.0

    def test_progress_keeps_its_first_mark_while_it_advances(self):
        book = RunRegistry([], 9)
        key = book.open(info("a")).key
        book.log_results(said(done=1.0, total=4.0), key, HERE)
        later = HERE._replace(done=2.0, at=60.0)
        run = book.log_results(said(done=2.0, total=4.0), key, later)
        assert run.progress == Progress(4.0, HERE, later)
        last = HERE._replace(done=3.0, at=70.0)
        run = book.log_results(said(done=3.0, total=4.0), key, last)
        assert run.progress == Progress(4.0, HERE, last, (later,))

    def test_progress_restarts_when_it_decreases_or_the_total_changes(self):
        book = RunRegistry([], 9)
        key = book.open(info("a")).key
        book.log_results(said(done=3.0, total=4.0), key, HERE._replace(done=3.0))
        run = book.log_results(said(done=1.0, total=4.0), key, HERE)
        assert run.progress == Progress(4.0, HERE, HERE)
        run = book.log_results(said(done=1.0, total=8.0), key, HERE)
        assert run.progress == Progress(8.0, HERE, HERE)

    def test_survives_an_end_and_a_return(self):
        book = RunRegistry([], 9)
        key = book.open(info("a")).key
        book.log_results(said(counts=(("tokens", 2.0),)), key, HERE)
        book.close(key, 20, "ended")
        assert book.open(info("a")).units == (UnitCount("tokens", 2.0),)

    def test_stored_counts_are_added_once(self):
        past = info("a", started=5)._replace(
            units=(UnitCount("tokens", 100.0),), logged=(("loss", 1.0),)
        )
        now = info("a", started=50)._replace(units=(UnitCount("tokens", 2.0),))
        run = with_stored_run(now, past)
        assert run.started == 5
        assert run.units == (UnitCount("tokens", 102.0, 100.0),)
        assert run.logged == (("loss", 1.0),)


def test_joining_a_run_fills_in_missing_fields():
    book = RunRegistry([], 9)
    book.open(info("a"))
    joined = info("a")._replace(
        name="bert", labels=(("team", "nlp"),), budget_grams=5.0, nodes=2, account="physics"
    )
    run = book.open(joined)
    assert (run.name, run.labels, run.budget_grams) == ("bert", (("team", "nlp"),), 5.0)
    assert (run.nodes, run.account) == (2, "physics")


def test_joining_a_run_changes_no_known_fields():
    book = RunRegistry([], 9)
    first = info("a")._replace(name="bert", labels=(("team", "nlp"),), budget_grams=5.0)
    book.open(first)
    run = book.open(info("a")._replace(name="gpt", labels=(("team", "cv"),), budget_grams=9.0))
    assert (run.name, run.labels, run.budget_grams) == ("bert", (("team", "nlp"),), 5.0)


def test_the_user_name_of_a_run_is_set_once_known():
    book = RunRegistry([], 9)
    names = {1: "", 2: "2"}
    first = book.open(info("a", uid=1)._replace(user=""))
    book.open(info("b", uid=2)._replace(user=""))
    pod = book.open(info("p", uid=-5)._replace(user=""))
    book.close(first.key, 20.0, "exited")
    book.fill_user_names(names.__getitem__)
    assert {run.key.run_id: run.user for run in book.visible()} == {"a": "", "b": "2", "p": ""}
    names.update({1: "ada", 2: "bob"})
    book.pop_changes()
    book.fill_user_names(names.__getitem__)
    assert [(run.key.run_id, run.user) for run in book.pop_changes()] == [("a", "ada")]
    assert book.get(pod.key).user == ""


def test_a_user_is_not_forgotten_when_a_run_comes_back():
    book = RunRegistry([], 9)
    book.open(info("a"))
    for _ in range(2):
        assert book.open(info("a")._replace(user="")).user == "ada"
        book.close(info("a").key, 20.0, "exited")


def provisional(run_id: str) -> RunInfo:
    return info(run_id)._replace(is_provisional=True)


def shown(book: RunRegistry) -> set[str]:
    return {run.key.run_id for run in book.visible()}


def test_a_new_run_replaces_its_provisional_runs_when_all_are_merged():
    book = RunRegistry([], 9)
    for run_id in ("uid", "name"):
        book.open(provisional(run_id))
    for run_id in ("uid", "name"):
        book.identify(info(run_id).key, info("bert"))
    first, second = book.merges()
    assert (first.is_counted, second.is_counted) == (True, True)
    assert shown(book) == {"uid", "name"}
    book.drop(first)
    assert shown(book) == {"name"}
    book.drop(second)
    assert shown(book) == {"bert"}


def test_a_run_that_was_hidden_stays_so_until_it_is_merged():
    book = RunRegistry([], 9)
    book.hide(book.open(provisional("uid")).key)
    book.identify(info("uid").key, info("bert"))
    assert shown(book) == {"bert"}
    book.drop(*book.merges())
    assert shown(book) == {"bert"}


def test_a_run_that_was_on_the_page_cannot_be_hidden():
    book = RunRegistry([], 9)
    book.open(info("a"))
    book.pop_opened()
    book.hide(info("a").key)
    assert shown(book) == {"a"}
