"""What one inference costs."""

import math

import pytest

from exporter.integrations import inference
from exporter.integrations.inference import inference_cost


@pytest.fixture
def calls(monkeypatch):
    """How many calls each round makes, in two seconds."""
    rounds = iter([100, 200, 400])
    monkeypatch.setattr(inference, "_repeat", lambda _, seconds: (next(rounds), seconds))


def test_all_rounds_are_one_run_and_their_spread_is_the_error(calls, runs):
    cost = inference_cost(lambda: None, rounds=3)
    assert {asked.get("run_id", "made-1") for asked in runs.told("runs")} == {"made-1"}
    assert runs.known["made-1"]["units"] == {"inferences": 700}
    assert cost.joules == pytest.approx(3000 / 700)
    assert cost.joules_error == pytest.approx(3.8188 / math.sqrt(3), rel=1e-4)  # of 10, 5, 2.5
    assert cost.grams == pytest.approx(1.5 / 700)
    assert (cost.inferences, cost.rounds) == (700, 3)
    assert cost.seconds == pytest.approx(6 / 700)


def test_a_call_may_be_several_inferences(calls, runs):
    assert inference_cost(lambda: None, rounds=1, inferences_per_call=10).inferences == 1000


def test_of_one_round_there_is_no_spread(calls, runs):
    assert math.isnan(inference_cost(lambda: None, rounds=1).grams_error)


def test_what_nobody_measures_is_not_known(calls, nobody, tmp_path):
    cost = inference_cost(lambda: None, socket=str(tmp_path / "nobody.sock"), private=False)
    assert math.isnan(cost.grams)
    assert (cost.inferences, cost.rounds) == (100, 1)


def test_a_round_has_a_call_however_short_it_is():
    made = []
    assert inference._repeat(lambda: made.append(1), 0.0)[0] == len(made) == 1
