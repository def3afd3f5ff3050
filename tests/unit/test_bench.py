"""How the benchmark judges what it measured."""

import os
import subprocess

import pytest

from tests.bench.machine import Usage, family
from tests.bench.results import Gate

QUIET = Usage(steal=0.001, others=0.01, load=0.5)
STOLEN = QUIET._replace(steal=0.05)
SHARED = QUIET._replace(others=0.4)


@pytest.mark.parametrize(
    ("measured", "usage", "verdict"),
    [
        (3.0, QUIET, "aim met"),
        (4.2, QUIET, "met"),
        (4.6, QUIET, "MISSED"),
        (4.6, STOLEN, "doubtful, missed"),
        (4.6, SHARED, "doubtful, missed"),
        (3.0, SHARED, "doubtful, met"),
    ],
)
def test_a_gate_is_judged_by_its_ratio_unless_others_used_the_machine(measured, usage, verdict):
    gate = Gate("tick", "ms", [measured], [2.0], 2.2, 4, usage)
    assert gate.verdict == verdict
    assert gate.is_doubtful == verdict.startswith("doubtful")


def test_a_slower_machine_misses_no_gate():
    slower = Gate("tick", "ms", [12.0], [6.0], 2.2, 4, QUIET)
    assert not slower.is_missed


def test_the_ratio_is_the_median_of_turns_so_one_slow_turn_does_not_count():
    gate = Gate("tick", "ms", [4.0, 40.0, 8.0], [2.0, 2.0, 4.0], 2.2, None, QUIET)
    assert gate.ratio == 2.0


def test_memory_is_judged_on_any_machine():
    assert Gate("RSS", "MB", [46.0], [], 45, 40).verdict == "MISSED"


def test_a_family_has_all_descendants():
    with subprocess.Popen(["sh", "-c", "cat; true"], stdin=subprocess.PIPE) as shell:
        try:
            while len(found := family([shell.pid])) < 2:
                assert shell.poll() is None
        finally:
            shell.communicate()
    assert shell.pid in found
    assert os.getpid() not in found
