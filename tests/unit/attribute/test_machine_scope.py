"""Runs that own the whole machine because somebody asked for it."""

import os

import pytest

from exporter.errors import RequestRefused

OWN = os.geteuid()


def test_it_pays_for_what_nobody_else_used(host):
    host.proc.process(10)
    host.look()
    run = host.start(10, "all", uid=OWN, scope="machine")
    host.look()
    assert host.workload.machine_owner == run.key


def test_nobody_has_the_machine_once_it_has_ended(host):
    host.proc.process(10)
    host.look()
    host.start(10, "all", uid=OWN, scope="machine")
    host.end("all", uid=OWN)
    host.look()
    assert host.workload.machine_owner is None


def test_it_is_over_when_its_process_is_gone(host):
    host.proc.process(10)
    host.look()
    host.start(10, "all", uid=OWN, scope="machine")
    host.proc.gone(10)
    host.look()
    assert host.running() == set()


def test_it_goes_on_after_a_restart(host):
    host.proc.process(10)
    host.look()
    run = host.start(10, "all", uid=OWN, scope="machine")
    host.restart()
    host.look()
    assert host.workload.machine_owner == run.key


def test_it_can_be_had_once(host):
    host.proc.process(10)
    host.proc.process(11, start=101)
    host.look()
    host.start(10, "all", uid=OWN, scope="machine")
    with pytest.raises(RequestRefused, match="run 'all' already has scope machine") as refused:
        host.start(11, "too", uid=OWN, scope="machine")
    assert refused.value.status == 409


def test_it_is_not_for_everybody(host, monkeypatch):
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
