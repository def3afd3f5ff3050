"""The page of one run."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import formatting
from exporter.expose.page.power_history import RunPowerHistory
from exporter.expose.page.run import RunPageData, run_page
from exporter.model.ledger import FactorUse
from exporter.model.readings import Method
from exporter.model.record import RunRecord
from exporter.model.runs import IMPORTED_UID, REPLAY, Progress, ProgressMark, RunKey, UnitCount
from exporter.model.snapshot import record_of
from exporter.report.forms.registry import FORMS
from tests.unit.expose.page.reading import Reader


def read(snapshot, run, past=None):
    shown = RunPageData(record_of(snapshot, run), snapshot, past, FORMS)
    return Reader(run_page(shown).decode())


def text_of(snapshot, run, past=None):
    return read(snapshot, run, past).text


@pytest.fixture
def node(made):
    return made.gpu_node()


@pytest.fixture
def bert(node):
    return node.runs[0]


def test_the_summary_splits_energy_into_active_and_held_idle(node, bert):
    text = text_of(node, bert)
    assert "Energy 1.11 kWh 1.11 kWh active, 0.167 Wh held idle <1 % estimated" in text
    assert "Power now 312 W" in text
    assert "Running for 2 h 0 min" in text


def test_a_replayed_run_is_marked_as_not_measured(node, bert):
    warning = "nothing was measured: this run was replayed from a recording"
    assert warning not in text_of(node, bert)
    assert warning in text_of(node, bert._replace(origin=REPLAY))


def test_the_summary_has_the_mean_intensity(node, bert):
    assert "Emissions 400 kg CO₂ equivalent; mean 360 000 g/kWh" in text_of(node, bert)


def test_energy_by_device_shows_method_and_split(node, bert):
    text = text_of(node, bert)
    assert "gpu 0 model of GPU-0 1.11 kWh 1.11 kWh 0.167 Wh 400 kg >99 % counter" in text
    why = "estimated modeled, not measured: no energy counter or power sensor could be read"
    assert f"<1 % {why} split by CPU time" in text


def test_a_removed_device_is_shown_by_its_id(made, bert):
    snapshot = made.snapshot(rows=(made.row(made.GPU1, bert.key, 1),), runs=(bert,))
    assert "gpu GPU-1" in text_of(snapshot, bert)


def test_the_intensity_shows_source_pue_and_fallback_step(node, bert):
    text = text_of(node, bert)
    assert "DE fallback step 1 344 g/kWh Ember 2025 average, lifecycle, location 1.2" in text


def test_unconverted_energy_is_listed_with_an_explanation(node, bert):
    uses = {bert.key: (FactorUse(None, 3_600_000_000, 0),)}
    text = text_of(node._replace(factor_uses=uses), bert)
    assert "excludes 1.00 Wh without an intensity" in text
    assert "Emissions \u2013 " in text
    assert "not available emissions are added when an intensity for this time is available" in text


BUDGETS = {
    "no forecast": (1e6, 0.0, "within budget"),
    "over": (1.0, 0.0, "over budget"),
    "will pass": (500_000.0, 50.0, "will exceed the budget"),
    "will stay": (1e6, 50.0, "will stay within budget"),
}


@pytest.mark.parametrize(("budget", "done", "said"), BUDGETS.values(), ids=BUDGETS)
def test_the_outlook_on_the_budget(made, node, bert, budget, done, said):
    total = 4_000_007_000_000
    marks = (
        ProgressMark(0.0, made.WALL - 10, 0, 0),
        ProgressMark(done, made.WALL, total, 100 * total),
    )
    run = bert._replace(budget_grams=budget, progress=Progress(100.0, *marks))
    text = text_of(node, run)
    assert f"End, UTC {said}" in text
    assert ("too early: no energy was measured" in text) == (not done)


@pytest.mark.parametrize("done", [0.0, 50.0])
def test_one_of_several_nodes_does_not_report_that_the_budget_is_kept(made, node, bert, done):
    total = 4_000_007_000_000
    marks = (
        ProgressMark(0.0, made.WALL - 10, 0, 0),
        ProgressMark(done, made.WALL, total, 100 * total),
    )
    run = bert._replace(budget_grams=1e6, progress=Progress(100.0, *marks), nodes=2)
    text = text_of(node, run)
    assert "unknown here the budget is for all 2 nodes, this is one of them" in text
    assert "over budget" in text_of(node, run._replace(budget_grams=1.0))


def test_the_forecast_shows_its_prediction_interval(made, node, bert):
    total = 4_000_007_000_000
    marks = [
        ProgressMark(10.0 * n, made.WALL, n * total // 4, 25 * n * total) for n in (0, 1, 2, 4)
    ]
    uneven = Progress(50.0, marks[0], marks[-1], tuple(marks[1:-1]))
    page = read(node, bert._replace(budget_grams=500_000.0, progress=uneven))
    assert "500\u202fkg to 500\u202fkg" in page.texts
    text = page.text
    assert "500 kg 500 kg to 500 kg 1.39 kWh 1.39 kWh to 1.39 kWh" in text
    used = made.WALL, total, 100 * total
    uneven = uneven._replace(
        last=ProgressMark(15.0, *used),
        between=(ProgressMark(5.0, *used), ProgressMark(10.0, *used)),
    )
    text = text_of(node, bert._replace(budget_grams=500_000.0, progress=uneven))
    assert "may exceed the budget" in text
    assert " kg to " in text


def test_results_and_counts_show_cost_per_unit(node, bert):
    run = bert._replace(
        logged=(("accuracy", 0.93), ("verdict", "good")),
        units=(
            UnitCount("samples", 4.0),
            UnitCount("tokens", 4_000_000.0),
            UnitCount("steps", 0.0),
        ),
    )
    text = text_of(node, run)
    assert "samples counted 4.00 278 Wh each 100 kg each" in text
    assert "tokens counted 4 000 000 0.278 Wh per 1 000 0.100 kg per 1 000" in text
    assert f"steps counted 0 {formatting.UNKNOWN} {formatting.UNKNOWN}" in text
    assert "accuracy logged 0.93 " in text
    assert "verdict logged good" in text


def test_tiny_counts_have_no_cost_per_unit(node, bert):
    text = text_of(node, bert._replace(units=(UnitCount("dust", 5e-324),)))
    assert f"dust counted <0.000001 {formatting.UNKNOWN} {formatting.UNKNOWN}" in text


def test_enclosing_enclosed_and_related_runs_are_linked(made, node, bert):
    inner = made.run(RunKey(1, "inner", ""), enclosing=bert.key)
    job = made.run(RunKey(1, "mate", "42"))
    group = made.run(RunKey(1, "sister", ""), labels=(("group", "sweep"),))
    run = bert._replace(enclosing=made.OLD, labels=(("group", "sweep"),))
    snapshot = node._replace(runs=(run, node.runs[1], inner, job, group))
    page = read(snapshot, run)
    for said in (
        "name of old old enclosing run",
        "name of inner inner enclosed run",
        "name of mate mate same job",
        "name of sister sister same group",
    ):
        assert said in page.text
    links = [a.get("href") for name, a in page.elements if name == "a"]
    assert "../runs/inner?job_id=" in links


def test_a_run_without_related_runs_has_no_table_of_them(node, bert):
    assert "Related runs" not in text_of(node, bert)


def test_the_coverage_is_shown(node, bert):
    text = text_of(node, bert._replace(nodes=4))
    assert "Coverage cpu, dram, gpu; excludes network, disks, fans" in text
    assert "node1, 1 of 4 nodes" in text


def test_an_ended_run_has_mean_power_and_an_end_and_refreshes_rarely(node):
    page = read(node, node.runs[1])
    assert "Mean power 0.00007 W exited" in page.text
    assert "Ended 2026-09-21 14:12:20 UTC, exited" in page.text
    (main,) = [a for name, a in page.elements if name == "main"]
    assert main["data-seconds"] == "60"


def test_the_power_chart_has_a_description(node, bert):
    past = RunPowerHistory(0.0, 120.0, {"cpu": (10.0, 20.0), "gpu": (90.0, 180.0)}, 150.0)
    page = read(node, bert, past)
    (said,) = [a["aria-label"] for name, a in page.elements if a.get("class") == "broad"]
    assert said == (
        "power from 1970-01-01 00:00:00 to 1970-01-01 00:02:00 UTC: maximum 200 W, mean 150 W"
    )


def test_a_missing_power_history_is_explained(node, bert):
    assert "The ledger did not respond" in text_of(node, bert)
    assert "No data yet; the first minute appears" in text_of(
        node, bert, RunPowerHistory(0.0, 0.0, {}, 0.0)
    )


def test_an_imported_run_is_marked_as_imported(node, bert):
    run = bert._replace(key=RunKey(IMPORTED_UID, "bert", ""), origin="codecarbon", ended=node.wall)
    text = text_of(node, run, RunPowerHistory(0.0, 0.0, {}, 0.0))
    assert "Not available: this run was measured by another tool." in text
    assert "as reported by codecarbon" in text


def test_every_form_of_the_receipt_is_offered(node, bert):
    links = [a.get("href") for name, a in read(node, bert).elements if name == "a"]
    assert [link for link in links if "/receipt" in link] == [
        f"../runs/bert/receipt?form={form}&job_id=42" for form in FORMS
    ]


def test_of_many_related_runs_the_closest_are_shown(made, node, bert):
    run = bert._replace(labels=(("group", "sweep"),))
    many = [made.run(RunKey(1, f"s{i}", ""), labels=run.labels) for i in range(200)]
    inner = made.run(RunKey(1, "inner", ""), enclosing=bert.key)
    page = read(node._replace(runs=(run, *many, inner)), run)
    assert "Showing 50 of 201." in page.text
    assert "enclosed run" in page.text
    assert page.text.count("same group") == 49


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1, max_size=30) | st.sampled_from(["</title><script>", '"><b>', "&lt;"]))
def test_hostile_texts_are_escaped(made, hostile):
    def shape(text):
        run = made.run(
            RunKey(1, text, text),
            name=text + "n",
            user=text,
            account=text,
            namespace=text,
            labels=((text, text),),
            ended=1.0,
            end_reason=text,
            logged=((text, text),),
            units=(UnitCount(text, 1.0),),
            scope=text,
            origin=text,
        )
        inner = made.run(RunKey(1, text + "i", text), name=text, enclosing=run.key)
        rows = (made.row(made.CPU, run.key, 5, method=Method.ESTIMATED),)
        uses = {run.key: (FactorUse(made.FACTOR._replace(zone=text, source=text), 5, 500),)}
        snapshot = made.snapshot(node=text, rows=rows, runs=(run, inner), factor_uses=uses)
        return [name for name, _ in read(snapshot, run).elements]

    assert shape(hostile) == shape("a")


def test_a_record_without_parts_is_shown(made):
    run = made.run(RunKey(1, "new", ""))
    record = RunRecord(run, (), (), made.WALL, "node1")
    text = Reader(run_page(RunPageData(record, made.snapshot(), None, FORMS)).decode()).text
    assert "No energy has been attributed to this run yet." in text
    assert "No energy has been converted yet." in text
