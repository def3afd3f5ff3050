"""What is said before runs are compared."""

import math

import pytest

from exporter.report.leaderboard.board import comparison_notes
from exporter.report.leaderboard.entry import make_entries
from exporter.report.leaderboard.ranking import choose_criteria, rank_runs
from tests.unit.report.leaderboard.making import USE, record

FRENCH = {**USE, "zone": "FR"}


def said(*records, **wishes):
    runs = make_entries({**run, "run_id": f"{n}"} for n, run in enumerate(records))
    asked = choose_criteria(runs, **wishes)
    return "\n".join(comparison_notes(rank_runs(runs, asked), asked))


def test_equal_runs_with_results_need_two_sentences():
    first, second = said(*[record(logged={"accuracy": 0.5})] * 2).splitlines()
    assert first == "Result: accuracy, larger is better; --lower-is-better reverses this."
    assert second.startswith("Pareto: no other ended run has at least as good a result with")


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({"ended": None}, "1 run still running: shown with usage so far, not ranked"),
        (
            {"ended": None, "boundary": {"nodes_lost": ["n1"]}},
            "1 run lost, no longer scraped and without a known end: shown with usage until then",
        ),
        ({"grams": 0.0}, "1 run without measured energy"),
        ({"use": {**USE, "zone": None}}, "1 run with energy without a carbon intensity"),
        ({"use": FRENCH}, "Different zones: DE, FR, with about the same carbon intensity"),
        ({"use": FRENCH, "carbon_ng": 10**8}, "Different carbon intensities: 36.0 to 360 g/kWh"),
        ({"use": {**USE, "basis": "direct"}}, "Bases differ, so grams are not comparable"),
        ({"use": {**USE, "signal": "marginal"}}, "Signals differ"),
        ({"use": {**USE, "accounting": "market"}}, "Accounting methods differ"),
        ({"use": {**USE, "pue": 1.4}}, "The PUE differs: 1 to 1.4"),
        ({"use": {**USE, "zone": "WORLD"}}, "based on the world average"),
        ({"nodes": 4}, "1 run with records of only some of their nodes"),
        ({"method": "estimated"}, "1 run with estimated energy"),
        ({"method": None}, "1 run from Prometheus"),
        ({"logged": {"accuracy": math.nan}}, "1 run logged a result that is not a number"),
        ({"logged": {"accuracy": -1.0}}, "1 run with a result below 0"),
        ({"carbon_ng": 0}, "1 run with no emissions because the carbon intensity was 0"),
    ],
)
def test_what_makes_a_run_hard_to_compare_is_said(run, words):
    usual = record(logged={"accuracy": 0.5})
    assert words not in said(usual)
    assert words in said(usual, record(**run))


def test_devices_that_differ_are_named():
    part = {**record()["parts"][0], "device": "gpu"}
    found = said(record(), record(), record(parts=[part]))
    assert "Different devices: cpu (2 runs); gpu (1 run)." in found


def test_without_results_runs_are_compared_by_what_they_used():
    assert "No run logged a number as its result" in said(record())


def test_a_direction_that_was_given_needs_no_hint():
    found = said(record(logged={"loss": 0.5}), higher_is_better=False)
    assert "Result: loss, smaller is better.\n" in found
    assert "No result per gram is shown, because a smaller result is better." in found
