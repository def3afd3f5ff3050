"""The page of the node."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import formatting
from exporter.expose.page.node import node_page
from exporter.expose.page.run import RunPageData, run_page
from exporter.expose.snapshot_view import SnapshotView
from exporter.model.runs import RunKey
from exporter.model.snapshot import record_of
from exporter.report.forms.registry import FORMS
from tests.unit.expose.page.reading import Reader


def render(snapshot, query=""):
    return node_page(SnapshotView(snapshot), query=query).decode()


def read(snapshot, query=""):
    reader = Reader(render(snapshot, query))
    return reader, reader.text


def test_an_empty_machine_is_shown(made):
    _, text = read(made.snapshot())
    assert "No energy source can be read" in text
    assert "No active runs" in text
    assert "Emissions do not increase: no intensity is known" in text


def test_the_summary_has_power_energy_emissions_and_grid(made):
    _, text = read(made.gpu_node())
    assert "Power now 150 W 3 of 4 devices 50.0 W estimated" in text
    assert "1.11 kWh since the ledger was created <1 % estimated" in text
    assert "344 g/kWh DE, lifecycle" in text


def test_the_table_of_runs_has_all_columns(made):
    _, text = read(made.gpu_node())
    assert (
        "name of bert bert, team=nlp 42 ada a1 running 312 W 1.11 kWh <1 % estimated"
        " 400 kg 80000 % of 0.500 kg" in text.replace("\u202f", "")
    )
    assert "2 h 0 min" in text
    assert "ended exited" in text


def test_the_run_of_a_pod_has_its_namespace_beside_its_name(made):
    run = made.run(RunKey(1, "uid-1", "x"), name="train-0", namespace="nlp")
    _, text = read(made.snapshot(runs=(run,)))
    assert "train-0 namespace nlp, uid-1" in text


@pytest.mark.parametrize(("grams", "stands_out"), [(500.0, True), (1e6, False)])
def test_a_run_over_its_budget_stands_out(made, grams, stands_out):
    node = made.gpu_node()
    run, *others = node.runs
    html = render(node._replace(runs=(run._replace(budget_grams=grams), *others)))
    kg = formatting.number(grams / 1000)
    (budget,) = [part for part in html.split("<small>") if f" of {kg} kg<" in part]
    assert budget.startswith('<span class="doubt">') == stands_out


def test_failures_are_shown_at_the_top(made):
    _, text = read(made.gpu_node())
    assert "gpu 0: no reading for 0.250 s: the driver does not answer" in text
    assert "rapl: dram is estimated on this machine" in text
    assert text.index("the driver does not answer") < text.index("2 on this page")


def test_problems_of_the_daemon_are_shown(made):
    health = made.DaemonHealth(ledger_why="disk full", imbalance_uj=3, series_dropped=4)
    _, text = read(made.snapshot(health=health))
    assert "could not be written: disk full" in text
    assert "out of balance by 3" in text
    assert "4 runs are counted as `other`" in text


def test_problems_of_the_daemon_are_shown_first_and_highlighted(made):
    text = render(made.gpu_node()._replace(health=made.DaemonHealth(ledger_why="disk full")))
    warnings = text[text.index("<ul") :]
    said = "The ledger could not be written: disk full"
    assert warnings.startswith(f'<ul class="warnings"><li class="grave">{said}</li><li>')


def test_each_cell_has_its_heading_for_narrow_screens(made):
    reader, _ = read(made.gpu_node())
    heads = [
        a.get("data-head") for name, a in reader.elements if a.get("data-head") or name == "td"
    ]
    assert all(heads)
    assert heads[:4] == ["Run", "Job", "User", "State"]


def test_estimates_are_marked(made):
    _, text = read(made.gpu_node())
    assert (
        "estimated modeled, not measured: no energy counter or power sensor could be read" in text
    )


def test_collectors_show_state_and_message(made):
    _, text = read(made.gpu_node())
    assert "nvml failing 0 s no driver; install it" in text


def test_live_sources_show_their_state_and_the_second_intensity_is_listed(made):
    _, text = read(made.snapshot(grid=made.live_grid()))
    assert "PPA 2026 configured value: 12 g/kWh average, unstated, market" in text
    assert "electricity_maps DE failing 9 unauthorized 2 1 min 0 s ago answered 401" in text
    assert "uk GB idle 0 never" in text


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=30) | st.sampled_from(["<script>alert(1)</script>", '"><b>', "&lt;", "'"]))
def test_hostile_texts_are_escaped(made, hostile):
    run = made.run(
        RunKey(1, hostile, hostile), name=hostile + "n", user=hostile, account=hostile, ended=1.0
    )
    state = made.state(made.CPU, up=False, why=hostile, info={"model": hostile, "ordinal": hostile})
    collector = made.CollectorState(hostile, ok=False, seconds=0.0, why=hostile)
    grid = made.IntensityState(made.FACTOR._replace(zone=hostile, source=hostile), 1.0, hostile)
    calm = made.run(RunKey(1, "a", "a"), ended=1.0)
    shape = [
        name
        for name, _ in read(
            made.snapshot(
                runs=(calm,),
                devices=(made.state(made.CPU, up=False, why="a"),),
                collectors=(made.CollectorState("a", ok=False, seconds=0.0, why="a"),),
                grid=made.IntensityState(made.FACTOR, 1.0, "a"),
                notes=("a",),
            )
        )[0].elements
    ]
    reader, _ = read(
        made.snapshot(
            node=hostile,
            runs=(run,),
            devices=(state,),
            collectors=(collector,),
            grid=grid,
            notes=(hostile,),
        )
    )
    assert [name for name, _ in reader.elements] == shape


def test_pages_load_nothing_from_other_origins(made):
    reader, _ = read(made.gpu_node())
    links = [a[k] for _, a in reader.elements for k in ("href", "src") if k in a]
    assert all(link.startswith(("./", "#")) for link in links)
    assert not [a for _, a in reader.elements if "style" in a]


def test_a_search_shows_matching_runs_and_their_number(made):
    node = made.gpu_node()
    for query, found in {
        "bert": ["bert"],
        "NLP ada": ["bert"],
        "team=nlp": ["bert"],
        "42": ["bert"],
        "ada": ["bert", "old"],
        "bert old": [],
        "312": [],
    }.items():
        reader, text = read(node, query)
        shown = [a["data-words"].split("\n")[0] for _, a in reader.elements if "data-words" in a]
        assert shown == found
        assert f"{len(found)} of 2 on this page" in text


def test_a_search_without_results_shows_a_message_and_keeps_the_query(made):
    reader, text = read(made.gpu_node(), '"><b>')
    assert "No run matches all of these words" in text
    (field,) = [a for name, a in reader.elements if name == "input"]
    assert field["value"] == '"><b>'


def test_each_run_links_to_its_page(made):
    reader, _ = read(made.gpu_node())
    links = [a["href"] for name, a in reader.elements if name == "a" and "/runs/" in a["href"]]
    assert links[:2] == ["./runs/bert?job_id=42", "./runs/old?job_id="]


def test_unconverted_energy_is_noted_at_the_emissions(made):
    waiting = {made.BERT: (made.FactorUse(None, 3_600_000_000, 0),)}
    _, text = read(made.gpu_node()._replace(factor_uses=waiting))
    assert "excludes 1.00 Wh without an intensity" in text


def test_bidirectional_controls_are_removed(made):
    run = made.run(RunKey(1, "a\u202eb\x07", "x"), name="\u2066n\x07")
    text = render(made.snapshot(runs=(run,)))
    assert "\ufffdn\ufffd</b>" in text
    assert "<small>a\ufffdb\ufffd</small>" in text
    shown = "".join(Reader(text).texts)
    assert not {"\u202e", "\x07", "\u2066"} & set(shown)


@pytest.mark.parametrize(("interval", "period"), [(0.1, "1"), (1.0, "1"), (5.0, "5")])
def test_pages_refresh_every_tick_but_at_most_once_per_second(made, interval, period):
    reader, _ = read(made.snapshot(interval_seconds=interval))
    (main,) = [a for name, a in reader.elements if name == "main"]
    assert main["data-seconds"] == period


@pytest.mark.parametrize(("interval", "period"), [(1.0, "30"), (60.0, "60")])
def test_without_scripts_a_page_refreshes_slowly_enough_to_type(made, interval, period):
    reader, _ = read(made.snapshot(interval_seconds=interval))
    (again,) = [a for name, a in reader.elements if a.get("http-equiv") == "refresh"]
    assert again["content"] == period


AMOUNT = re.compile(r"^(?:&lt;)?[\d.\u202f]+ (k?Wh|m?g|kg)$")


def units_by_column(html):
    """Return the units in each column of each table, without remarks."""
    found = {}
    for number, part in enumerate(html.split("<table>")[1:]):
        for head, text in re.findall(r'data-head="([^"]*)">([^<]*)<', part.split("</table>")[0]):
            if unit := AMOUNT.match(text):
                found.setdefault((number, head), set()).add(unit[1])
    return found


@pytest.mark.parametrize("size", [1, 10**3, 10**6])
def test_a_column_has_one_unit(made, size):
    node = made.gpu_node()
    grown = []
    for row in node.rows:
        total = made.Amount(*[amount * size for amount in row.balance.total])
        grown.append(row._replace(balance=row.balance._replace(total=total)))
    snapshot = node._replace(rows=tuple(grown))
    runs = [
        run_page(RunPageData(record_of(snapshot, run), snapshot, None, FORMS)).decode()
        for run in node.runs
    ]
    for html in (render(snapshot), *runs):
        units = units_by_column(html)
        assert len(units) > 3
        assert {column: each for column, each in units.items() if len(each) > 1} == {}


def test_the_page_has_the_name_of_the_product_and_of_the_node(made):
    html = render(made.gpu_node())
    assert '<p class="product"><a href="./">emissions-exporter</a></p>' in html
    assert "<h1>node1</h1>" in html
    assert "\u00b7 node1 \u00b7 emissions-exporter</title>" in html


def test_a_run_without_a_name_is_shown_by_its_id(made):
    for name in ("", " ", "bert"):
        run = made.run(made.BERT, name=name)
        _, text = read(made.snapshot(runs=(run,)))
        assert "Duration bert 42 ada" in text


def test_an_annual_mean_shows_its_year_and_no_age(made):
    year = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
    factor = made.FACTOR._replace(as_of=year)
    state = made.IntensityState(factor, made.WALL - year, "yearly mean of DE, Ember 2024")
    _, text = read(made.snapshot(grid=state))
    assert "344 g/kWh mean of 2024" in text
    assert " old" not in text


def test_a_current_value_shows_its_age(made):
    factor = made.FACTOR._replace(valid_until=made.WALL + 60, as_of=made.WALL - 840)
    _, text = read(made.snapshot(grid=made.IntensityState(factor, 840.0, "measured")))
    assert "344 g/kWh 14 min 0 s old" in text


def test_a_value_without_a_time_shows_neither_year_nor_age(made):
    factor = made.FACTOR._replace(as_of=0.0)
    _, text = read(made.snapshot(grid=made.IntensityState(factor, None, "configured value")))
    assert "344 g/kWh Ember 2025" in text
