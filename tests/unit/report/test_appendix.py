"""What stands in an appendix, in whatever form."""

import pytest

from exporter.report.appendix import appendix
from exporter.report.forms.registry import FORMS
from exporter.report.group import group_record
from exporter.report.records import combine_records
from tests.unit.report.forms.making import KWH_UJ, USE, record
from tests.unit.report.test_fleet import record as of_prometheus
from tests.unit.report.test_fleet import there  # noqa: F401  a fixture


@pytest.fixture
def document():
    return appendix(record())


def facts(document, title):
    (section,) = [section for section in document.sections if section.title == title]
    return dict(section.facts)


def table(document, title):
    (section,) = [section for section in document.sections if section.title == title]
    return section.table


def test_the_summary_can_be_quoted(document):
    assert document.summary == (
        "This run used 3.00 kWh of electricity on 2 \u00d7 NVIDIA A100-SXM4-80GB in Frankfurt, "
        "Germany within 1 h 0 min and emitted 1.24 kg of CO2 equivalent."
    )


def test_active_and_held_idle_are_the_energy(document):
    used = facts(document, "Usage")
    assert used["energy"].endswith("(3.00 kWh)")
    assert used["active"].endswith("(2.50 kWh)")
    assert "(0.500 kWh)" in used["held idle"]
    assert used["with PUE"].startswith("3.60 kWh")
    assert used["mean power"] == "3\u202f000 W"


def test_each_component_has_its_energy_share_and_method(document):
    assert table(document, "By component").rows == (
        ("processors", "0.500 kWh", "17 %", "0 kWh", "0.206 kg", COUNTER + ", split by CPU time"),
        ("memory", "0.500 kWh", "17 %", "0 kWh", "0.207 kg", "estimated, split by memory held"),
        ("2 GPUs", "2.00 kWh", "67 %", "0.500 kWh", "0.826 kg", COUNTER + ", held alone"),
    )


def units_of(cells):
    return {cell.rpartition(" ")[2] for cell in cells}


@pytest.mark.parametrize("kwh", [0.0004, 0.4, 3, 4_000])
def test_each_column_has_one_unit(kwh):
    scale = kwh / 3
    amounts = {
        name: round(record()[name] * scale) for name in ("energy_uj", "held_uj", "carbon_ng")
    }
    parts = [
        {**part, **{name: round(part[name] * scale) for name in amounts}}
        for part in record()["parts"]
    ]
    uses = [
        {**USE, "energy_uj": amounts["energy_uj"] - 5, "carbon_ng": amounts["carbon_ng"]},
        {**USE, "energy_uj": 5, "carbon_ng": 0},
    ]
    made = appendix(record(**amounts, parts=parts, intensity=uses))
    components = list(zip(*table(made, "By component").rows, strict=True))
    energy_units = units_of([*components[1], *components[3]])
    assert len(energy_units) == len(units_of(components[4])) == 1
    assert units_of(row[3] for row in table(made, "Carbon intensity").rows) == energy_units
    used = facts(made, "Usage")
    assert (
        units_of(
            used[name].partition(": ")[0].rstrip(")") for name in ("energy", "active", "held idle")
        )
        == energy_units
    )


def test_a_part_without_energy_is_no_component():
    unused = {"device": "cpu", "id": "package-1", "method": "estimated", "split": "exclusive"}
    parts = [*record()["parts"], {**unused, "energy_uj": 0, "held_uj": 0, "carbon_ng": 0}]
    assert appendix(record(parts=parts)) == appendix(record())


COUNTER = "read from a hardware counter"


def test_the_intensity_has_its_source_kind_and_pue(document):
    assert table(document, "Carbon intensity").rows == (
        ("DE", "344.14", "1.2", "3.00 kWh", "lifecycle, average, location", "a table, 2024"),
    )
    assert facts(document, "Carbon intensity")["mean"].startswith("413 g/kWh, PUE included")


def test_each_method_has_its_bound(document):
    methods = facts(document, "Methods and error bounds")
    assert "\u00b15 %" in methods[COUNTER]
    assert methods["estimated"].startswith("the source of the coefficients states no error bound")
    assert "integrated" not in str(methods)


def test_what_is_outside_is_said(document):
    boundary = facts(document, "Boundary")
    assert boundary["counted"] == "processors, memory, GPUs"
    for outside in ("network", "storage"):
        assert outside in boundary["not counted"]
    assert boundary["cooling"] == "only as the PUE of 1.2"
    assert boundary["seen on"] == "node n1"


def test_without_a_pue_cooling_is_outside():
    made = appendix(record(intensity=[{**USE, "pue": 1.0}]))
    assert facts(made, "Boundary")["cooling"] == "not counted: the PUE is 1"
    assert "with PUE" not in facts(made, "Usage")


def group_with_unconverted_energy():
    """2.6 kWh with PUE 1, 1 kWh with PUE 1.2, and 1 kWh without a carbon intensity."""
    kwh = {"parts": [], "energy_uj": KWH_UJ}
    use = {**USE, "energy_uj": KWH_UJ}
    most = {**use, "pue": 1.0, "energy_uj": 2_600 * KWH_UJ // 1_000}
    unknown = {"zone": None, "energy_uj": KWH_UJ, "carbon_ng": 0}
    return group_record(
        [
            record("a", **{**kwh, "energy_uj": most["energy_uj"]}, intensity=[most]),
            record("b", **kwh, intensity=[use]),
            record("c", **{**kwh, "carbon_ng": 0}, intensity=[unknown]),
        ],
        "sweep",
    )


def test_energy_without_a_carbon_intensity_is_counted_without_pue():
    made = appendix(group_with_unconverted_energy())
    remark = "; 1.00 kWh without a carbon intensity, counted without PUE"
    assert facts(made, "Usage")["with PUE"] == (
        f"4.80 kWh, including cooling and power supply{remark}"
    )
    assert facts(made, "Boundary")["cooling"] == f"only as the PUE of 1.056{remark}"


@pytest.mark.parametrize(
    ("name", "title", "run"),
    [
        ("warm up", "run warm up (bert)", "warm up, bert, job 4711"),
        ("bert", "run bert", "bert, job 4711"),
        ("", "run bert", "bert, job 4711"),
    ],
)
def test_a_run_is_called_by_its_name_and_its_id(name, title, run):
    made = appendix(record(name="bert") | {"name": name})
    assert made.title == f"Energy and emissions of {title}"
    assert facts(made, "Circumstances")["run"] == run


def test_what_nobody_said_is_not_made_up():
    made = facts(appendix(record(labels={}, parts=[])), "Circumstances")
    assert made["training type"] == made["location"] == made["hardware"] == "not stated"


def test_what_the_run_said_goes_before_the_models():
    said = facts(appendix(record(labels={"hardware_used": "a box"})), "Circumstances")
    assert said["hardware"] == "a box"


def test_an_estimated_processor_is_named_without_what_was_assumed():
    part = {**record()["parts"][2], "model": "Intel Xeon (assumed 0.74 to 3.50 W per thread)"}
    assert facts(appendix(record(parts=[part])), "Circumstances")["hardware"] == (
        "1 \u00d7 Intel Xeon"
    )


def test_energy_that_waits_for_an_intensity_is_said():
    waiting = {"zone": None, "energy_uj": KWH_UJ, "carbon_ng": 0}
    made = appendix(record(intensity=[USE, waiting]))
    assert made.summary.endswith("excluding 1.00 kWh without a carbon intensity.")


def test_a_run_that_goes_on_says_so():
    made = appendix(record(ended=None))
    assert "so far" in made.summary
    assert "until now" in facts(made, "Usage")["duration"]


def test_a_run_without_energy_has_an_appendix():
    made = appendix(
        record(parts=[], intensity=[], energy_uj=0, held_uj=0, carbon_ng=0, duration_seconds=0.0)
    )
    assert facts(made, "Carbon intensity") == {"intensity": "none available"}
    assert facts(made, "Boundary")["counted"] == "nothing"


def test_a_record_of_a_fleet_says_what_its_metrics_do_not(there):  # noqa: F811
    made = appendix(of_prometheus(there))
    assert "not available in the metrics" in str(facts(made, "Methods and error bounds"))
    assert "g/kWh on average" in str(facts(made, "Carbon intensity"))


def test_a_group_has_its_mean_and_its_final_run():
    made = appendix(group_record([record("a"), record("b")], "sweep-1"))
    tuning = facts(made, "Tuning")
    assert made.title == "Energy and emissions of all 2 of group sweep-1"
    assert made.summary.startswith("These runs used 6.00 kWh")
    assert "3.00 kWh \u00b1 0 kWh" in tuning["mean run"]
    assert tuning["final run"].endswith("50 % of the energy")
    assert "mean power" not in facts(made, "Usage")


def test_a_replay_claims_no_measurement():
    replayed = appendix(record(origin="replay"))
    assert replayed.summary.startswith("This run, replayed from a recording, used 3.00 kWh")
    methods = facts(replayed, "Methods and error bounds")
    assert "nothing was measured" in methods["replay"]
    assert not any("measured by" in each for each in (*methods, *map(str, replayed.sections)))


INNER = {"runs": 3, "energy_uj": KWH_UJ, "carbon_ng": 400 * 10**9}


@pytest.mark.parametrize("form", ["markdown", "latex", "html"])
def test_the_sum_with_inner_runs_is_in_every_appendix(form):
    text = FORMS[form].write({**record(), "inner": INNER})
    assert "with inner" in text
    assert "1.64 kg CO2eq; 3 runs inside it, counted separately" in text
    assert "With its 3 inner runs, it used 4.00 kWh and emitted 1.64 kg." in text


UNKNOWN_USE = {"zone": None, "energy_uj": 3 * KWH_UJ, "carbon_ng": 0}


def test_unknown_emissions_are_not_zero():
    parts = [{**part, "carbon_ng": 0} for part in record()["parts"]]
    document = appendix(record(carbon_ng=0, parts=parts, intensity=[UNKNOWN_USE]))
    assert document.summary.endswith(
        "within 1 h 0 min; its emissions are unknown, because the energy has no carbon intensity."
    )
    assert facts(document, "Usage")["emitted"] == (
        "\u2013, unknown: the energy has no carbon intensity"
    )
    assert {row[4] for row in table(document, "By component").rows} == {"\u2013"}


def test_the_mean_intensity_is_that_of_the_converted_energy():
    uses = [
        {**record()["intensity"][0], "energy_uj": 3 * KWH_UJ // 2},
        {**UNKNOWN_USE, "energy_uj": 3 * KWH_UJ // 2},
    ]
    document = appendix(record(carbon_ng=1_239 * 10**9 // 2, intensity=uses))
    mean = facts(document, "Carbon intensity")["mean"]
    assert mean == "413 g/kWh, PUE included, weighted by energy"
    assert {row[4].startswith("> ") for row in table(document, "By component").rows} == {True}


@pytest.mark.parametrize("form", ["html", "latex", "markdown"])
def test_energy_of_jobs_that_were_not_visible_is_not_zero(form):
    part = {"device": "cpu", "id": "p", "method": "counter", "split": "cpu_time"}
    nothing = {"energy_uj": 0, "held_uj": 0, "carbon_ng": 0}
    unseen = record(
        origin="slurm", duration_seconds=600.0, parts=[{**part, **nothing}], intensity=[], **nothing
    )
    text = FORMS[form].write(unseen)
    assert "used an unknown amount of electricity" in text
    assert "no cgroup and no visible process" in text
    assert "emitted 0" not in text
    both = FORMS[form].write(combine_records([record(), unseen], "both"))
    assert "used at least" in both
    assert "emitted at least" in both
    assert "processors and memory of 1 of the 2 runs" in both
