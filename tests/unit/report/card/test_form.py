"""A record as a card that says nothing else."""

from exporter.report.card.check import check_card
from exporter.report.forms.registry import FORMS
from exporter.report.group import group_record


def test_the_form_is_a_whole_card(record):
    assert FORMS["model-card"].write(record).splitlines()[:3] == [
        "---",
        "co2_eq_emissions:",
        "  emissions: 83524",
    ]


UNKNOWN_USE = {"zone": None, "energy_uj": 2_505_724_200_000_000}


def test_without_emissions_it_says_what_is_missing_and_has_no_metadata(record):
    unknown = {**record, "carbon_ng": 0, "intensity": [UNKNOWN_USE]}
    text = FORMS["model-card"].write(unknown)
    assert text.startswith("## Environmental Impact\n")
    assert "Hours used:** 439" in text
    line = "Carbon Emitted:** unknown: 696 kWh of 696 kWh have no carbon intensity\n"
    assert line in text
    group = group_record([unknown, {**unknown, "run_id": "gpt"}], "sweep")
    assert line.replace("696", "1\u202f392") in FORMS["model-card"].write(group)


def test_incomplete_emissions_are_a_lower_bound(record):
    waiting = {"zone": None, "energy_uj": 25_057_242_000_000 * 2}
    whole = {
        **record,
        "energy_uj": record["energy_uj"] + waiting["energy_uj"],
        "intensity": [*record["intensity"], waiting],
    }
    assert (
        "Carbon Emitted:** unknown, \\> 83.5 kg CO2eq: 13.9 kWh of 710 kWh have no carbon "
        "intensity\n" in FORMS["model-card"].write(whole)
    )


def test_a_carbon_intensity_of_0_is_0_grams(record):
    use = {**record["intensity"][0], "grams_per_kwh": 0.0}
    text = FORMS["model-card"].write({**record, "carbon_ng": 0, "intensity": [use]})
    assert "Carbon Emitted:** 0 g CO2eq\n" in text


def test_nothing_measured_is_a_card_as_well(record):
    empty = {"carbon_ng": 0, "energy_uj": 0, "parts": [], "intensity": [], "duration_seconds": 0.0}
    text = FORMS["model-card"].write({**record, **empty})
    assert "Boundary:** nothing of 1 node" in text
    assert "Carbon Emitted:** unknown: no energy was measured\n" in text


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


def test_a_card_has_the_emissions_of_the_run_with_its_inner_runs(record):
    sums = {name: record[name] for name in ("energy_uj", "held_uj", "carbon_ng", "parts")}
    whole = {**record, "inner": {"runs": 3, **sums, "intensity": record["intensity"]}}
    text = FORMS["model-card"].write(whole)
    assert "  emissions: 167048\n" in text
    assert "Carbon Emitted:** 167048 g CO2eq" in text
    assert "Energy Used:** 1\u202f392 kWh" in text
    assert "Hours used:** 439\n" in text
    assert "Runs:** run bert with 3 inner runs, whose energy and emissions are included" in text
    assert check_card(text, whole) == []
    assert check_card(text, record) != []


def test_inner_runs_without_parts_leave_out_the_energy_by_device(record):
    older = {"runs": 1, "energy_uj": record["energy_uj"], "carbon_ng": record["carbon_ng"]}
    text = FORMS["model-card"].write({**record, "inner": older})
    assert "Energy Used:** 1\u202f392 kWh\n" in text
    assert "with 1 inner run, whose" in text


def test_a_card_of_a_group_names_its_runs_and_the_final_one(record):
    named = {**record, "name": "bert-large", "run_id": "r2", "started": 9.0}
    text = FORMS["model-card"].write(group_record([record, named], "sweep-1"))
    assert "Runs:** 2 of group sweep-1; final run bert-large, r2\n" in text


def test_a_card_of_a_part_of_a_group_says_so(record):
    part = group_record([record], "sweep-1", complete=False)
    text = FORMS["model-card"].write(part)
    assert "Runs:** 1 of group sweep-1, which has more runs; final run " in text
