"""Every file of every corpus passes its target, and so do random changes of them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.attempt import CORPUS, attempt, corpus_of
from tests.fuzz.mutation import mutated
from tests.fuzz.targets import TARGETS

SLOW = ("ledger_file", "model_card", "run_records")
"""Targets that take milliseconds for each input; `make fuzz` changes their inputs."""


def passes(name, data):
    crash = attempt(TARGETS[name], data)
    assert crash is None, crash.traceback


def test_every_target_has_a_corpus_and_every_corpus_a_target():
    assert {path.name for path in CORPUS.iterdir()} == TARGETS.keys()
    assert all(corpus_of(name) for name in TARGETS)


def test_the_corpora_are_small():
    files = [path for name in TARGETS for path in corpus_of(name)]
    assert len(files) <= 200
    assert sum(path.stat().st_size for path in files) <= 300_000


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_of_the_corpus_passes(name):
    for path in corpus_of(name):
        passes(name, path.read_bytes())


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in SLOW])
@given(seed=st.integers(0, 2**32))
def test_changed_inputs_pass(name, seed):
    rng = random.Random(seed)
    passes(name, mutated(rng, [path.read_bytes() for path in corpus_of(name)]))


def test_a_crash_names_its_error():
    def target(_):
        int("x")

    crash = attempt(target, b"input")
    assert crash is not None
    assert (crash.data, crash.error[:10]) == (b"input", "ValueError")


def test_an_input_that_takes_too_long_is_a_crash(monkeypatch):
    monkeypatch.setattr("tests.fuzz.attempt.CPU_SECONDS", 0.1)

    def target(_):
        while True:
            pass

    crash = attempt(target, b"")
    assert crash is not None
    assert crash.error == "TookTooLongError: took more than 0.1 s"
