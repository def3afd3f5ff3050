"""Worker threads: calls at start, on wake and at stop, timeouts and failures."""

import logging
import threading
from types import SimpleNamespace

import pytest

from exporter import worker as module
from exporter.worker import OnDemandWorker, SharedCall, Worker, deadline, wait_until

FOREVER = 3_600.0
LIMIT_SECONDS = 20.0
"""Timeout of waits that normally end at once."""


class Work:
    """Records its calls; each waits until `may_end` is set."""

    def __init__(self):
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()
        self.may_end.set()
        self.calls = 0
        self.error = None

    def __call__(self):
        self.calls += 1
        self.begun.release()
        assert self.may_end.wait(LIMIT_SECONDS)
        if self.error is not None:
            raise self.error


@pytest.fixture
def work():
    return Work()


@pytest.fixture
def worker(work):
    made = Worker("ledger", work, FOREVER)
    yield made
    work.may_end.set()
    assert made.stop(LIMIT_SECONDS)


def begun(work):
    return work.begun.acquire(timeout=LIMIT_SECONDS)


def test_the_first_call_happens_at_once(worker, work):
    worker.start()
    assert begun(work)


def test_wake_does_not_wait_for_the_period(worker, work):
    worker.start()
    assert begun(work)
    worker.wake()
    assert begun(work)


def test_stopping_makes_one_last_call(worker, work):
    worker.start()
    assert begun(work)
    assert worker.stop(LIMIT_SECONDS)
    assert work.calls == 2


def test_a_worker_that_was_never_started_is_stopped_at_once(worker, work):
    assert worker.stop(LIMIT_SECONDS)
    assert work.calls == 0


def test_stop_times_out_on_a_call_that_hangs(worker, work):
    work.may_end.clear()
    worker.start()
    assert begun(work)
    assert not worker.stop(0.0)


def test_a_failure_that_repeats_is_logged_once_until_a_call_succeeds(caplog):
    first, second, third, other = ValueError(1), ValueError(2), ValueError(3), KeyError(4)
    outcomes = iter([first, second, None, third, other])
    begun = threading.Semaphore(0)

    def work():
        outcome = next(outcomes, None)
        begun.release()
        if outcome is not None:
            raise outcome

    worker = Worker("ledger", work, FOREVER)
    with caplog.at_level(logging.ERROR):
        worker.start()
        for _ in range(4):
            assert begun.acquire(timeout=LIMIT_SECONDS)
            worker.wake()
        assert begun.acquire(timeout=LIMIT_SECONDS)
        assert worker.stop(LIMIT_SECONDS)
    assert [record.exc_info[1] for record in caplog.records] == [first, third, other]


def test_a_call_that_fails_is_logged_and_made_again(worker, work, caplog):
    work.error = ValueError("broken")
    with caplog.at_level(logging.ERROR):
        worker.start()
        assert begun(work)
        worker.wake()
        assert begun(work)
        assert worker.stop(LIMIT_SECONDS)
    assert caplog.records[0].exc_info[1] is work.error


def test_a_call_beyond_its_deadline_is_stalled_until_it_ends(worker, work, monkeypatch):
    now = [1_000.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    assert worker.stalled_seconds == 0.0
    work.may_end.clear()
    worker.start()
    assert begun(work)
    now[0] += 30.0
    assert worker.stalled_seconds == 0.0
    now[0] += 11.0
    assert worker.stalled_seconds == 41.0
    work.may_end.set()
    assert worker.stop(LIMIT_SECONDS)
    assert worker.stalled_seconds == 0.0


class TestOnDemandWorker:
    @pytest.fixture
    def gate(self):
        gate = threading.Event()
        yield gate
        gate.set()

    def test_a_result_is_returned_once(self):
        asker = OnDemandWorker("t", lambda: 7)
        asker.request()
        assert asker.result(deadline(10)) == 7
        assert asker.result(deadline(0)) is None
        assert asker.stop(10)

    def test_a_call_that_hangs_is_waited_for_once(self, gate):
        calls = []

        def work():
            calls.append(1)
            gate.wait()
            return len(calls)

        asker = OnDemandWorker("t", work)
        asker.request()
        assert asker.result(deadline(0.01)) is None
        asker.request()
        assert asker.result(deadline(3600)) is None
        assert asker.busy_seconds > 0
        assert not asker.stop(0.01)
        gate.set()
        assert wait_until(lambda: asker.busy_seconds == 0, 10)
        assert asker.result(deadline(0)) == 1
        assert calls == [1]

    def test_a_call_that_raises_has_no_result(self, caplog):
        answers = iter([ValueError("no"), 5])

        def work():
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        asker = OnDemandWorker("t", work)
        asker.request()
        assert asker.result(deadline(10)) is None
        assert "worker call failed" in caplog.text
        asker.request()
        assert asker.result(deadline(10)) == 5
        assert asker.stop(10)

    def test_an_old_result_does_not_replace_a_call_that_raises(self):
        answers = iter([5])
        asker = OnDemandWorker("t", lambda: next(answers))
        for _ in range(2):
            asker.request()
            assert wait_until(lambda: asker.busy_seconds == 0, 10)
        assert asker.result(deadline(0)) is None
        assert asker.stop(10)

    def test_a_worker_without_requests_stops_at_once(self):
        assert OnDemandWorker("t", lambda: 1).stop(0)


class TestSharedCall:
    def test_threads_share_the_result_of_one_call(self, work):
        shared = SharedCall(work, FOREVER)
        work.may_end.clear()
        callers = [OnDemandWorker(str(number), lambda: (shared.result(), 1)) for number in range(3)]
        for caller in callers:
            caller.request()
        assert begun(work)
        work.may_end.set()
        assert [caller.result(deadline(LIMIT_SECONDS)) for caller in callers] == [(None, 1)] * 3
        assert work.calls == 1
        assert all(caller.stop(LIMIT_SECONDS) for caller in callers)

    def test_an_outdated_result_is_replaced(self):
        numbers = iter(range(3))
        shared = SharedCall(lambda: next(numbers), 0.0)
        assert [shared.result() for _ in range(3)] == [0, 1, 2]

    def test_a_failure_is_raised_and_not_kept(self):
        answers = iter([ValueError("no"), 5])

        def work():
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        shared = SharedCall(work, FOREVER)
        with pytest.raises(ValueError, match="no"):
            shared.result()
        assert shared.result() == 5


def test_wait_until_has_a_timeout():
    assert wait_until(lambda: True, 0)
    assert not wait_until(lambda: False, 0)
