"""The preview of a dashboard: queries, drawings and errors."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.dashboards.preview import formatting, timeseries
from tests.dashboards.preview.__main__ import main
from tests.dashboards.preview.page import page
from tests.dashboards.preview.panel_data import PanelData
from tests.dashboards.preview.prometheus import (
    Prometheus,
    QueryError,
    Series,
    Span,
    pieces,
    with_names,
)
from tests.dashboards.preview.table import frames, in_order, transformed
from tests.dashboards.preview.variables import Variable, marks, resolve, substituted
from tests.grid.server import GridServer

GENERATED = Path(__file__).resolve().parents[3] / "dashboards" / "generated"
BOARDS = sorted(GENERATED.glob("*.json"))
VARIABLE = re.compile(r"\$\{?[a-z_]")
SPAN = Span(1_700_000_000, 1_700_000_060, 1)


class Answers:
    """A double of Prometheus with one series, `{run_id="<bert>"}`, or an error."""

    url = "http://prometheus.example"

    def __init__(self, why="", value=5.0):
        self.why, self.value = why, value
        self.asked = []

    def latest(self, expr, at):
        return self._answer(expr, [(at, self.value)])

    def over(self, expr, span, step_seconds):
        start, _ = span.aligned(step_seconds)
        return self._answer(expr, [(start + n * step_seconds, self.value) for n in range(3)])

    def label_values(self, label, selector, span):
        return ["<bert>"]

    def _answer(self, expr, points):
        self.asked.append(expr)
        if self.why:
            raise QueryError(self.why)
        return [Series({"run_id": "<bert>"}, points)]


@pytest.fixture(params=BOARDS, ids=lambda path: path.stem)
def board(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def test_every_panel_of_every_dashboard_is_drawn_with_its_title(board):
    drawn = page(board, Answers(), SPAN, {})
    assert "the preview does not draw" not in drawn
    assert "<bert>" not in drawn
    assert board["title"] in drawn


def test_no_variable_is_left_in_a_query(board):
    answers = Answers()
    page(board, answers, SPAN, {})
    assert answers.asked
    assert [expr for expr in answers.asked if VARIABLE.search(expr)] == []


def test_a_query_that_is_refused_is_told_in_its_panel(board):
    assert "parse error: bad" in page(board, Answers(why="parse error: bad"), SPAN, {})


def test_a_least_step_in_minutes_is_so_many_evaluations_of_the_rules():
    assert Span(0, 60, 1).step_seconds("1m") == 60
    assert Span(0, 60, 1, rules_seconds=5).step_seconds("1m") == 5
    assert Span(0, 60, 1, rules_seconds=5).step_seconds("15s") == 15


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.00121, "massg", "1.21 mg"),
        (5070, "watt", "5.07 kW"),
        (0.112, "kwatth", "112 Wh"),
        (0, "joule", "0 J"),
        (0.142, "percentunit", "14.2%"),
        (1728, "s", "28.8 mins"),
        (float("inf"), "watt", "∞"),
        (2_000_000, "short", "2 Mil"),
    ],
)
def test_numbers_are_written_as_grafana_does(value, unit, text):
    assert formatting.number_text(value, unit) == text


def test_an_axis_has_no_zeros_behind_the_point():
    marks = timeseries.ticks(0, 1.6, 200, "percentunit")
    assert [formatting.tick_text(at, "percentunit") for at in marks] == [
        "0%",
        "50%",
        "100%",
        "150%",
    ]
    assert formatting.tick_text(1500, "watt") == "1.5 kW"


PANEL = {"title": "Spent", "gridPos": {"x": 0, "y": 0, "w": 12, "h": 8}, "transformations": []}
TARGET = {"refId": "A", "expr": "spent", "instant": True, "legendFormat": "{{run_id}}"}


def a_board(kind, **more):
    panel = {**PANEL, "type": kind, "targets": [TARGET], **more}
    none = {"list": []}
    return {"title": "Made up", "panels": [panel], "templating": none, "annotations": none}


class Silent(Answers):
    def _answer(self, expr, points):
        return []


def test_a_gauge_shows_its_number_within_its_ends():
    defaults = {"min": 0, "max": 10, "unit": "joule", "thresholds": {"steps": []}}
    drawn = page(a_board("gauge", fieldConfig={"defaults": defaults}), Answers(), SPAN, {})
    assert "5 J" in drawn
    assert "&lt;bert&gt;" in drawn


@pytest.mark.parametrize("kind", ["stat", "gauge", "bargauge", "table", "timeseries"])
def test_a_panel_without_data_says_so(kind):
    assert "No data" in page(a_board(kind), Silent(), SPAN, {})


def test_a_panel_that_cannot_be_drawn_says_so():
    drawn = page(a_board("nodeGraph"), Answers(), SPAN, {})
    assert "the preview does not draw panels of type nodeGraph" in drawn


def test_a_transformation_that_is_not_known_is_told():
    with pytest.raises(QueryError, match="does not know the transformation groupBy"):
        transformed([[]], [{"id": "groupBy"}])


def test_tables_are_joined_on_what_they_share_and_columns_keep_their_order():
    found = [
        Series({"run": "b"}, [(1, 2.0)], ref="A"),
        Series({"run": "a"}, [(1, 3.0)], ref="A"),
        Series({"run": "a", "user": "ada"}, [(1, 1.0)], ref="B"),
    ]
    organize = {
        "excludeByName": {"Time": True, "Value #B": True},
        "indexByName": {"run": 0, "user": 1, "Value #A": 2},
        "renameByName": {"run": "Run", "user": "User", "Value #A": "Energy"},
    }
    steps = [{"id": "merge"}, {"id": "organize", "options": organize}]
    rows = transformed(frames(found, ["A", "B"]), steps)
    rows = in_order(rows, [{"displayName": "Energy", "desc": True}])
    assert [list(row.items()) for row in rows] == [
        [("Run", "a"), ("User", "ada"), ("Energy", 3.0)],
        [("Run", "b"), ("User", None), ("Energy", 2.0)],
    ]


def test_rows_without_a_value_come_last_either_way():
    rows = [{"n": None}, {"n": 1.0}, {"n": 2.0}]
    for desc in (True, False):
        assert in_order(rows, [{"displayName": "n", "desc": desc}])[-1] == {"n": None}


@pytest.mark.parametrize(
    ("legend", "names"),
    [
        ("{{node}} {{ id }}", ["a 1", "b 1"]),
        ("__auto", ["a", "b"]),
        ("", ['up{id="1", node="a"}', 'up{id="1", node="b"}']),
    ],
)
def test_series_are_named_as_their_legend_says(legend, names):
    found = [Series({"__name__": "up", "id": "1", "node": node}, []) for node in "ab"]
    assert [each.name for each in with_names(found, legend, "up", "A")] == names


def test_a_variable_is_written_as_the_query_needs_it():
    several = Variable("Run", "All", ["a.b", "c"], several=True)
    whole = Variable("Node", "All", ["a"], pattern=".*", several=True)
    known = {"run": several, "node": whole}
    assert substituted('{run=~"$run"}', {}, known) == r'{run=~"(a\\.b|c)"}'
    assert substituted("${run:csv} ${node} $other", {}, known) == "a.b,c .* $other"
    assert substituted("[$__range]", SPAN.builtins(), known) == "[60s]"


def variable(**more):
    model = {"name": "run", "type": "query", "query": "label_values(up, run)", "includeAll": False}
    return {"templating": {"list": [{**model, **more}]}}


def test_a_variable_is_what_was_chosen_else_what_it_opens_on_else_its_first_value():
    opens_on = variable(type="custom", query="5,10", current={"value": "10"})
    assert resolve(variable(), Answers(), SPAN, {"run": "x"})["run"].text == "x"
    assert resolve(opens_on, Answers(), SPAN, {})["run"].text == "10"
    assert resolve(variable(), Answers(), SPAN, {})["run"].values == ["<bert>"]


def test_a_variable_takes_a_part_of_a_result():
    asked = variable(query="query_result(topk(1, up))", regex='/run_id="([^"]+)"/')
    assert resolve(asked, Answers(), SPAN, {})["run"].values == ["<bert>"]


def test_points_are_cut_where_some_are_missing():
    points = [(0, 1.0), (1, 1.0), (3, 1.0)]
    assert pieces(points, 1) == [points[:2], points[2:]]


def annotated(**more):
    model = {"name": "Runs", "expr": "began", "iconColor": "red", "step": "", **more}
    return {"annotations": {"list": [{"name": "of Grafana itself"}, model]}}


def test_an_annotation_marks_how_long_a_series_was_there():
    (found,) = marks(annotated(), Answers(), SPAN, {})
    assert found.times == {(SPAN.start, SPAN.start + 2)}


def test_an_annotation_marks_the_moment_that_its_value_is_if_it_lies_in_what_is_drawn():
    at = SPAN.start + 30
    for value, times in ((at, {(at, at)}), (at - 3600, set())):
        (found,) = marks(annotated(useValueForTime=True), Answers(value=1000 * value), SPAN, {})
        assert found.times == times


def test_an_annotation_that_fails_says_why():
    (found,) = marks(annotated(), Answers(why="parse error"), SPAN, {})
    assert (found.times, found.error) == (frozenset(), "parse error")


@pytest.fixture
def prometheus():
    servers = []

    def start(status, document):
        server = GridServer(lambda _: (status, {}, json.dumps(document).encode()))
        servers.append(server)
        return Prometheus(server.url)

    yield start
    for server in servers:
        server.stop()


def test_an_answer_becomes_series_without_what_is_no_number(prometheus):
    row = {"metric": {"id": "1"}, "values": [[1, "2.5"], [2, "NaN"]]}
    found = prometheus(200, {"data": {"result": [row]}}).over("up", SPAN, 1)
    assert found == [Series({"id": "1"}, [(1, 2.5)])]


def test_a_refusal_is_told_in_the_words_of_prometheus(prometheus):
    with pytest.raises(QueryError, match=r"^bad_data: no$"):
        prometheus(400, {"error": "bad_data: no"}).latest("(", 1)


def test_nobody_who_answers_is_told(prometheus):
    api = prometheus(200, {})
    with pytest.raises(QueryError, match="does not answer"):
        api.latest("up", 1)


def test_without_a_browser_it_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert main(["--out", str(tmp_path)]) == 1
    assert "make tools" in capsys.readouterr().err


def test_areas_are_stacked_and_a_line_is_broken_where_points_are_missing():
    start = SPAN.start
    found = [
        Series({}, [(start, 1.0), (start + 1, 1.0), (start + 5, 1.0)], "a"),
        Series({}, [(start, 2.0), (start + 1, float("inf"))], "b"),
    ]
    custom = {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 25, "lineWidth": 1}
    panel = {"fieldConfig": {"defaults": {"custom": custom | {"axisSoftMin": 0}, "max": 4}}}
    drawn = timeseries.draw_timeseries(PanelData(panel, found, SPAN, 1, 600, 300))
    assert 'd="M0.0 750.0L16.7 750.0h0"' in drawn
    assert 'd="M83.3 750.0h0"' in drawn
    assert 'd="M0.0 250.0L0.0 750.0Z"' in drawn


def test_a_line_is_filled_down_to_the_one_that_is_named():
    start = SPAN.start
    found = [
        Series({}, [(start, 1.0), (start + 1, 1.0)], "least"),
        Series({}, [(start, 3.0), (start + 1, 2.0)], "most"),
    ]
    backfill_id = {"custom.fillBelowTo": "least", "custom.fillOpacity": 20}
    override = {
        "matcher": {"id": "byName", "options": "most"},
        "properties": [{"id": name, "value": value} for name, value in backfill_id.items()],
    }
    defaults = {"custom": {"lineWidth": 0}, "min": 0, "max": 4}
    panel = {"fieldConfig": {"defaults": defaults, "overrides": [override]}}
    drawn = timeseries.draw_timeseries(PanelData(panel, found, SPAN, 1, 600, 300))
    assert 'd="M0.0 250.0L16.7 500.0L16.7 750.0L0.0 750.0Z"' in drawn
