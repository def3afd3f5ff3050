"""Runs that were registered with scope machine."""

import os

import pytest

from exporter.errors import RequestRefused

OWN = os.geteuid()


def test_it_is_charged_for_energy_of_no_other_run(host):
    host.proc.process(10)
    host.look()
    run = host.start(10, "all", uid=OWN, scope="machine")
    host.look()
    assert host.workload.machine_owner == run.key


def test_after_its_end_the_machine_has_no_owner(host):
    host.proc.process(10)
    host.look()
    host.start(10, "all", uid=OWN, scope="machine")
    host.end("all", uid=OWN)
    host.look()
    assert host.workload.machine_owner is None


def test_it_ends_with_its_process(host):
    host.proc.process(10)
    host.look()
    host.start(10, "all", uid=OWN, scope="machine")
    host.proc.gone(10)
    host.look()
    assert host.running() == set()


def test_it_continues_after_a_restart(host):
    host.proc.process(10)
    host.look()
    run = host.start(10, "all", uid=OWN, scope="machine")
    host.restart()
    host.look()
    assert host.workload.machine_owner == run.key


def test_only_one_run_can_have_it(host):
    host.proc.process(10)
    host.proc.process(11, start=101)
    host.look()
    host.start(10, "all", uid=OWN, scope="machine")
    with pytest.raises(RequestRefused, match="run 'all' already has scope machine") as refused:
        host.start(11, "too", uid=OWN, scope="machine")
    assert refused.value.status == 409


def test_it_is_refused_for_other_users(host, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    host.proc.process(10, uid=1001)
    host.look()
    with pytest.raises(RequestRefused, match="for root and for the user that the daemon runs as"):
        host.start(10, "all", uid=1001, scope="machine")


def test_other_runs_are_counted_beside_it(host):
    host.proc.process(10)
    host.proc.process(11, start=101)
    host.look()
    host.start(10, "all", uid=OWN, scope="machine")
    host.start(11, "mine")
    host.proc.process(11, start=101, own=5)
    assert host.look() == {"mine": 5}
