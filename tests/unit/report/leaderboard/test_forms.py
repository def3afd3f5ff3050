"""The board as a table, Markdown, CSV and JSON."""

import csv
import io
import json
import math

from exporter.report.leaderboard.board import make_leaderboard
from exporter.report.leaderboard.entry import attach_serving_runs, make_entries
from exporter.report.leaderboard.formats import markdown_table, text_table, to_csv, to_json
from exporter.report.leaderboard.ranking import SortKey, choose_criteria
from tests.unit.report.leaderboard.making import USE, record

HOSTILE = "a|b\x1b[2J\u202e<img src=x>[y](http://z)\n"
RUNS = [
    record("small", 1.0, held=0.25, logged={"accuracy": 0.5}, units={"requests": 20_000.0}),
    record(HOSTILE, 4.0, logged={"accuracy": 0.75}, method="estimated"),
    record("open", 2.0, ended=None, logged={"accuracy": math.nan}),
]


def made(records=RUNS, sort=SortKey.GRAMS, top=None):
    runs = make_entries(records)
    return make_leaderboard(runs, choose_criteria(runs, sort), top)


def test_a_table_has_a_line_for_each_run_and_the_notes_under_it():
    title, _, head, first, second, last, _, *notes = text_table(made()).splitlines()
    assert title == "3 runs, lowest emissions first"
    assert " ".join(head.split()) == (
        "RANK RUN USER ENDED (UTC) ENERGY CO2EQ HELD IDLE ACCURACY ACCURACY PER G "
        "PER 10 000 REQUESTS MARKS"
    )
    assert " ".join(first.split()) == (
        "1 small ada 1970-01-01 00:18 2.78 Wh 1.00 g 25 % 0.5000 0.500 0.500 g Pareto"
    )
    assert second.endswith("Pareto, estimated")
    assert last.split()[:4] == ["\u2013", "open", "ada", "running"]
    assert last.endswith("running")
    assert "not a number" in last
    assert notes == list(made().notes)


def test_a_table_cannot_fool_a_terminal():
    assert "\x1b" not in text_table(made())
    assert "\u202e" not in text_table(made())


def test_markdown_has_a_cell_for_each_column_whatever_a_name_says():
    rows = [line for line in markdown_table(made()).splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {12}
    assert "\\<img src=x\\>\\[y\\]" in rows[3]


def test_few_results_per_gram_are_given_per_kilogram():
    found = text_table(made([record(grams=50.0, logged={"accuracy": 0.5})]))
    assert "ACCURACY PER\u202fKG" in found
    assert " 10.0000 " not in found
    assert " 10.0  Pareto" in found


def test_columns_that_no_run_has_are_left_out():
    head = text_table(made([record()])).splitlines()[2]
    assert head.split()[-4:] == ["CO2EQ", "HELD", "IDLE", "MARKS"]


def test_grams_that_are_incomplete_are_more_than_what_is_shown():
    uses = [*record()["intensity"], {**USE, "zone": None, "energy_uj": 5, "carbon_ng": 0}]
    line = text_table(made([record(intensity=uses)])).splitlines()[3]
    assert "> 1.00 g" in line
    assert line.endswith("grams incomplete")


def test_the_first_are_shown_and_their_marks_are_those_among_all():
    dear_and_worse = record("x", 9.0, logged={"accuracy": 0.6})
    found = made([*RUNS, dear_and_worse], SortKey.RESULT, top=2)
    assert [row.entry.run_id for row in found.rows] == [HOSTILE, "x"]
    assert [row.is_pareto_optimal for row in found.rows] == [True, False]
    assert text_table(found).startswith("4 runs, best result first, the first 2\n")


def test_no_runs_is_a_sentence_that_says_what_makes_one():
    assert text_table(made([])).startswith(
        "No runs to compare. Create one with `emissions-exporter run -- COMMAND`"
    )
    assert markdown_table(made([])) == text_table(made([]))


def test_json_says_what_was_compared_and_has_no_nan():
    found = json.loads(to_json(made()), parse_constant=None)
    assert (found["metric"], found["higher_is_better"], found["units"]) == (
        "accuracy", True, 10_000,
    )  # fmt: skip
    first, second, last = found["runs"]
    assert (first["rank"], first["carbon_grams"], first["held_idle_ratio"]) == (1, 1.0, 0.25)
    assert (second["run_id"], second["estimated_ratio"]) == (HOSTILE, 1.0)
    assert (last["rank"], last["running"], last["logged"]) == (None, True, {"accuracy": None})
    assert found["notes"] == list(made().notes)


def test_csv_has_ids_as_they_are():
    rows = list(csv.DictReader(io.StringIO(to_csv(made()), newline="")))
    assert [row["run_id"] for row in rows] == ["small", HOSTILE, "open"]
    assert (rows[0]["grams_per_units"], rows[1]["grams_per_units"]) == ("0.5", "")


def test_csv_has_no_formulas():
    rows = list(csv.DictReader(io.StringIO(to_csv(made([record("=1+1", 1.0)])))))
    assert rows[0]["run_id"] == "'=1+1"


def named(run_id, name, grams, **more):
    return {**record(run_id, grams, **more), "name": name}


NAMED = [named("id-1", "warm up", 1.0), record("id-2", 2.0), named("id-3", "id-3", 3.0)]


def test_names_are_before_ids_where_a_run_has_one():
    head, first, second, third = text_table(made(NAMED)).splitlines()[2:6]
    assert head.split()[:4] == ["RANK", "NAME", "RUN", "USER"]
    assert " ".join(first.split()).startswith("1 warm up id-1 ada")
    assert second.split()[:3] == ["2", "id-2", "ada"]
    assert third.split()[:3] == ["3", "id-3", "ada"]
    assert "| rank | name | run | user |" in markdown_table(made(NAMED))


def test_programs_are_given_names_in_a_last_column():
    rows = list(csv.reader(io.StringIO(to_csv(made(NAMED)))))
    assert [row[-1] for row in rows] == ["name", "warm up", "", ""]
    assert [row[1] for row in rows] == ["run_id", "id-1", "id-2", "id-3"]
    assert [run["name"] for run in json.loads(to_json(made(NAMED)))["runs"]] == ["warm up", "", ""]


def test_a_name_is_no_formula_in_csv():
    rows = list(csv.DictReader(io.StringIO(to_csv(made([named("id", "=1+1", 1.0)])))))
    assert rows[0]["name"] == "'=1+1"


def test_a_column_has_one_unit():
    runs = [record("large", 4_000.0), record("small", 0.02, units={"requests": 1.0})]
    large, small = text_table(made(runs)).splitlines()[3:5][::-1]
    assert "11.1 kWh" in large
    assert "4.00 kg" in large
    assert "0.000056 kWh" in small
    assert "0.00002 kg" in small


def test_grams_per_units_have_one_unit_with_their_range():
    serving = [
        record(f"s{number}", grams, units={"requests": 10_000.0}, labels={"serves": "large"})
        for number, grams in enumerate((0.5, 2_500.0))
    ]
    runs = [record("large", 4.0), record("small", 2.0, units={"requests": 20_000.0}), *serving]
    rows = attach_serving_runs(make_entries(runs))
    small, large = text_table(make_leaderboard(rows, choose_criteria(rows))).splitlines()[3:5]
    assert "0.001 kg" in small
    assert "1.25 kg (0.0005 to 2.50)" in large


def test_a_lost_run_is_called_lost():
    line = text_table(made([record("gone", 1.0, ended=None, boundary={"nodes_lost": ["n1"]})]))
    assert line.splitlines()[3].count("lost") == 2
    assert "running" not in line


def test_no_runs_are_an_empty_list_for_programs():
    assert json.loads(to_json(made([])))["runs"] == []
    assert to_csv(made([])).count("\n") == 0
