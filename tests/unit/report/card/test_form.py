"""A record as a card that says nothing else."""

from exporter.report.forms.registry import FORMS


def test_the_form_is_a_whole_card(record):
    assert FORMS["model-card"].write(record).splitlines()[:3] == [
        "---",
        "co2_eq_emissions:",
        "  emissions: 83524",
    ]


def test_without_emissions_it_says_what_is_known_and_has_no_metadata(record):
    text = FORMS["model-card"].write({**record, "carbon_ng": 0})
    assert text.startswith("## Environmental Impact\n")
    assert "Hours used:** 439" in text
    assert "Carbon Emitted" not in text


def test_nothing_measured_is_a_card_as_well(record):
    empty = {"carbon_ng": 0, "energy_uj": 0, "parts": [], "intensity": [], "duration_seconds": 0.0}
    assert "Boundary:** nothing of 1 node" in FORMS["model-card"].write({**record, **empty})


def test_over_many_nodes_the_mean_intensity_is_said(record):
    parts = [{**part, "method": None, "node": "n2"} for part in record["parts"]]
    many = {**record, "parts": [*record["parts"], *parts], "intensity": [], "node": "n1, n2"}
    text = FORMS["model-card"].write(many)
    assert "120 g/kWh on average, PUE included" in text
    assert "Hardware Type:** 6 GPUs" in text
    assert "Boundary:** gpu of 2 nodes" in text


def test_a_replay_claims_no_measurement(record):
    text = FORMS["model-card"].write({**record, "origin": "replay"})
    assert "energy replayed from a recording, not measured" in text
    assert "gpu replayed from a recording, not measured" in text
    assert "measured by" not in text
