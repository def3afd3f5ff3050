"""A function that a thread calls at an interval."""

import os
import threading

from exporter.client.periodic import PeriodicCall

WAIT_SECONDS = 10.0


def test_the_function_is_called_again_and_again():
    called = threading.Semaphore(0)
    periodic = PeriodicCall(0.0, called.release)
    periodic.start()
    assert all(called.acquire(timeout=WAIT_SECONDS) for _ in range(3))
    periodic.stop()


def test_no_call_begins_while_the_lock_is_held_and_none_after_stop():
    calls = []
    periodic = PeriodicCall(0.0, lambda: calls.append(1))
    with periodic.lock:
        periodic.start()
        periodic.stop()
    assert calls == []


def test_the_function_may_stop_its_own_calls():
    stopped = threading.Event()

    def run_once():
        periodic.stop()
        stopped.set()

    periodic = PeriodicCall(0.0, run_once)
    periodic.start()
    assert stopped.wait(WAIT_SECONDS)


def test_an_interval_may_be_longer_than_any_program_runs():
    periodic = PeriodicCall(float("inf"), lambda: None)
    periodic.start()
    periodic.stop()


def test_it_can_be_started_again():
    called = threading.Event()
    periodic = PeriodicCall(0.0, called.set)
    for _ in range(2):
        called.clear()
        periodic.start()
        assert called.wait(WAIT_SECONDS)
        periodic.stop()


def test_a_forked_child_has_a_lock_that_is_free():
    entered, leave = threading.Event(), threading.Event()

    def hold():
        entered.set()
        leave.wait(WAIT_SECONDS)

    periodic = PeriodicCall(0.0, hold)
    periodic.start()
    assert entered.wait(WAIT_SECONDS)
    if (child := os.fork()) == 0:
        os._exit(0 if periodic.lock.acquire(blocking=False) else 1)
    assert os.waitpid(child, 0)[1] == 0
    periodic.stop()
    leave.set()
