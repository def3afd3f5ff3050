"""Exponential backoff."""

import pytest

from exporter.backoff import Backoff


def test_delays_double_up_to_the_longest():
    backoff = Backoff(1.0, 60.0)
    assert [backoff.fail() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_there_is_no_delay_before_a_failure_and_after_a_success():
    backoff = Backoff(1.0, 60.0)
    assert backoff.seconds == 0
    backoff.fail()
    backoff.reset()
    assert backoff.seconds == 0
    assert backoff.fail() == 1


@pytest.mark.parametrize(("failures", "seconds"), [(0, 60), (3, 480), (10, 3600), (10**6, 3600)])
def test_a_row_of_failures_continues_after_a_restart(failures, seconds):
    assert Backoff(60.0, 3600.0, failures).fail() == seconds
