"""How runs begin, end, come back and are capped."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.attribute.runbook import OTHER_RUN, Runbook
from exporter.model.runs import RunInfo, RunKey


def info(run_id: str, uid: int = 1, job_id: str = "", started: float = 10.0) -> RunInfo:
    return RunInfo(RunKey(uid, run_id, job_id), "", "ada", "registered", started)


def test_a_run_that_comes_back_keeps_its_first_start():
    book = Runbook([], 9)
    book.open(info("a", started=10))
    book.close(info("a").key, 20, "ended")
    again = book.open(info("a", started=30))
    assert (again.started, again.ended) == (10, None)


def test_the_second_user_of_an_id_is_shown_with_the_uid():
    book = Runbook([], 9)
    assert book.open(info("a", uid=1)).shown_id == "a"
    assert book.open(info("a", uid=2)).shown_id == "a@2"


def test_nobody_can_take_the_shown_id_of_another():
    book = Runbook([], 9)
    book.open(info("a@2", uid=1))
    book.open(info("a", uid=1))
    assert book.open(info("a", uid=2)).shown_id == "a@2@2"


def test_an_inner_run_takes_the_job_of_the_run_around_it():
    book = Runbook([], 9)
    outer = book.open(info("outer", job_id="j"))
    inner = book.open(info("inner"), outer.key)
    assert inner.key.job_id == "j"
    assert inner.enclosing == outer.key


def test_what_is_inside_a_run_that_ends_is_then_inside_the_run_around_it():
    book = Runbook([], 9)
    outer = book.open(info("outer"))
    middle = book.open(info("middle"), outer.key)
    inner = book.open(info("inner"), middle.key)
    assert [run.key for run in book.innermost_first()] == [inner.key, middle.key, outer.key]
    book.close(middle.key, 20, "ended")
    assert book.get(inner.key).enclosing == outer.key


def test_two_runs_of_one_user_are_not_shown_under_one_id():
    book = Runbook([], 9)
    book.open(info("a", uid=1))
    book.open(info("a", uid=2))
    assert book.open(info("a@2", uid=2)).shown_id == "a@2@2"


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.sampled_from(["a", "a@2", "a@2@2"]), st.sampled_from("xy"))
    )
)
def test_what_a_run_is_shown_under_is_its_own(wanted):
    book = Runbook([], 99)
    for uid, run_id, job_id in wanted:
        book.open(info(run_id, uid, job_id))
    shown = [(run.shown_id, run.key.job_id) for run in book.shown()]
    assert len(set(shown)) == len(shown)


def test_an_id_means_the_run_that_is_shown_under_it():
    book = Runbook([], 9)
    book.open(info("a", uid=1))
    other = book.open(info("a", uid=2))
    book.open(info("a@2", uid=2))
    assert book.find(2, "a@2", None) == other


def test_beyond_the_cap_new_runs_are_folded_into_other_and_counted():
    book = Runbook([], 1)
    book.open(info("a"))
    assert book.open(info("b")).key == OTHER_RUN
    assert book.open(info("c")).key == OTHER_RUN
    assert book.dropped == 2
    assert book.open(info("a")).key == info("a").key


def test_an_ended_run_leaves_the_page_only_after_its_time():
    book = Runbook([], 9)
    book.open(info("a"))
    book.close(info("a").key, 100, "ended")
    assert book.expire(199, 100) == []
    assert book.expire(200, 100) == [info("a").key]
    assert book.shown() == ()


def test_changes_are_told_once():
    book = Runbook([], 9)
    run = book.open(info("a"))
    assert book.changes() == [run]
    assert book.changes() == []
    assert book.newcomers() == [run.key]
    assert book.newcomers() == []


def test_a_user_can_reserve_no_name_of_ours():
    assert Runbook([], 9).open(info("other", uid=7)).shown_id == "other@7"


def test_at_the_cap_the_run_that_ended_first_makes_room():
    book = Runbook([], 2)
    for run_id, ended in (("a", 30), ("b", 20)):
        book.open(info(run_id))
        book.close(info(run_id).key, ended, "ended")
    assert book.open(info("c")).shown_id == "c"
    assert book.expire(40, 900) == [info("b").key]
    assert book.expire(40, 900) == []
    assert {run.shown_id for run in book.shown()} == {"a", "c"}


def test_a_wall_clock_that_was_set_back_keeps_no_run_on_the_page():
    book = Runbook([], 9)
    book.open(info("a"))
    book.close(info("a").key, 100_000, "ended")
    assert book.expire(100_000 - 86_400, 900) == [info("a").key]
