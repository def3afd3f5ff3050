"""A thread that calls what may block: at once, when poked, once more at the end, whatever fails."""

import logging
import threading
from types import SimpleNamespace

import pytest

from exporter import worker as module
from exporter.worker import Worker

FOREVER = 3_600.0
LIMIT_SECONDS = 20.0
"""For waits that end at once unless something is broken."""


class Work:
    """Notes its calls; each waits until `may_end` is set."""

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


def test_a_poke_does_not_wait_for_the_period_to_end(worker, work):
    worker.start()
    assert begun(work)
    worker.poke()
    assert begun(work)


def test_stopping_makes_one_last_call(worker, work):
    worker.start()
    assert begun(work)
    assert worker.stop(LIMIT_SECONDS)
    assert work.calls == 2


def test_a_worker_that_never_began_is_stopped_as_it_is(worker, work):
    assert worker.stop(LIMIT_SECONDS)
    assert work.calls == 0


def test_stopping_gives_up_on_a_call_that_hangs(worker, work):
    work.may_end.clear()
    worker.start()
    assert begun(work)
    assert not worker.stop(0.0)


def test_a_call_that_fails_is_logged_and_made_again(worker, work, caplog):
    work.error = ValueError("broken")
    with caplog.at_level(logging.ERROR):
        worker.start()
        assert begun(work)
        worker.poke()
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
