"""The generated dashboards."""

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from exporter.expose.metrics import metric_families
from tests.dashboards.boards import BOARDS, GENERATED, questions, variables

ROOT = Path(__file__).resolve().parents[3]
DASHBOARDS = ROOT / "dashboards"
PANELS = {
    name: {
        f"{panel['title']} ({panel['id']})": panel
        for panel in board["panels"]
        if panel["type"] != "row"
    }
    for name, board in BOARDS.items()
}
EXPRESSIONS = {name: {each.name: each.expr for each in questions(name)} for name in BOARDS}
REACT = {"timeseries", "stat", "table", "bargauge"}
"""Built-in panel types of Grafana; those of Angular were removed in Grafana 12."""
NAME = re.compile(r"\b(?:[a-z_]+:)?(?:emissions|process)_[a-z0-9_]+(?::[a-z0-9_]+)?\b")
LABELS = re.compile(r'"[^"]*"|\{[^}]*\}|\b(?:by|on|group_left|group_right)\s*\([^)]*\)|, \w+\)$')
"""Parts of queries that are not metrics: texts, matchers, labels, and labels of `label_values`."""
LARGEST_BYTES = 1 << 20
"""Size limit of a ConfigMap in bytes."""
BUDGETS = ROOT / "tests" / "rules" / "generated" / "budgets.yaml"


RULES = [
    rule
    for path in (*sorted((ROOT / "deploy" / "prometheus").glob("*/*.yaml")), BUDGETS)
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
KNOWN = {family.name for family in metric_families()} | {
    rule["record"] for rule in RULES if "record" in rule
}


def unknown_names(expression):
    return set(NAME.findall(LABELS.sub("", expression))) - KNOWN


def boards():
    return pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


def each_of(cases):
    """Turn a test of one case into a test of all cases of a dashboard."""

    def decorate(check):
        @pytest.mark.parametrize("name", BOARDS)
        def test(name):
            for title, case in cases[name].items():
                try:
                    check(case)
                except AssertionError as failure:
                    failure.add_note(f"of {title!r}")
                    raise

        return test

    return decorate


def test_there_is_a_dashboard():
    assert BOARDS


def test_the_generated_files_are_current():
    done = subprocess.run(
        [sys.executable, DASHBOARDS / "generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@each_of(EXPRESSIONS)
def test_every_metric_of_a_panel_exists(expression):
    assert unknown_names(expression) == set()


def test_every_metric_of_a_rule_exists():
    unknown = {rule["expr"]: unknown_names(rule["expr"]) for rule in RULES}
    assert {expr: names for expr, names in unknown.items() if names} == {}


@pytest.mark.parametrize(
    "expression",
    ["emissions_device_watts", "process_cpu_seconds", "a:emissions_run_power_watts:sum"],
)
def test_a_metric_that_does_not_exist_is_found(expression):
    assert unknown_names(f"sum by (id) ({expression}{{id='x'}})") == {expression}


@pytest.mark.real
def test_prometheus_accepts_every_query(tmp_path):
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed; it comes with Prometheus")
    queries = [
        re.sub(r"\$__\w+", "5m", expression)
        for expressions in EXPRESSIONS.values()
        for expression in expressions.values()
    ]
    group = {"name": "q", "rules": [{"record": f"q{n}", "expr": q} for n, q in enumerate(queries)]}
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [group]}))
    done = subprocess.run(
        [tool, "check", "rules", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@boards()
def test_a_dashboard_has_a_stable_uid(board):
    assert re.fullmatch(r"[a-z-]{1,40}", board["uid"])
    assert board["id"] is None


@boards()
def test_a_dashboard_is_changed_in_its_source_alone(board):
    assert board["editable"] is False


@boards()
def test_the_first_variable_of_a_dashboard_is_the_data_source(board):
    first = board["templating"]["list"][0]
    assert (first["name"], first["type"]) == ("datasource", "datasource")


@pytest.mark.parametrize("name", BOARDS)
def test_a_variable_is_of_metrics_that_exist_and_is_used(name):
    asked = list(EXPRESSIONS[name].values())
    for variable in variables(name):
        assert unknown_names(variable["query"]) == set()
        asked.append(variable["query"])
        assert any(f"${variable['name']}" in each for each in asked + _queries(name))


def _queries(name):
    return [variable["query"] for variable in variables(name)]


@boards()
def test_a_dashboard_fits_into_a_config_map(board):
    (path,) = (GENERATED / f"{name}.json" for name, each in BOARDS.items() if each is board)
    assert path.stat().st_size < LARGEST_BYTES


def test_dashboards_have_unique_ids():
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS)


@boards()
def test_links_lead_to_variables_of_dashboards_and_keep_the_time(board):
    known = {
        (each["uid"], variable["name"])
        for each in BOARDS.values()
        for variable in each["templating"]["list"]
    }
    for uid, rest in re.findall(r'"/d/([a-z-]+)\?([^"\\]*)', json.dumps(board)):
        (variable,) = re.findall(r"&var-(\w+)=", rest)
        assert (uid, variable) in known
        assert "${__url_time_range}" in rest
        assert "${datasource:queryparam}" in rest


@boards()
def test_dashboards_link_to_each_other_by_their_tag(board):
    (link,) = board["links"]
    assert set(link["tags"]) <= set(board["tags"])
    assert link["keepTime"]


def test_the_fleet_links_to_nodes_and_nodes_link_to_runs():
    assert "/d/emissions-nodes?" in json.dumps(BOARDS["fleet"])
    assert "/d/emissions-run?" in json.dumps(BOARDS["node"])


@boards()
def test_an_annotation_reads_the_chosen_data_source(board):
    for annotation in board["annotations"]["list"]:
        assert annotation["datasource"]["uid"] == "${datasource}"
    assert any("alertstate" in each["expr"] for each in board["annotations"]["list"])


@boards()
def test_panels_do_not_overlap_and_stay_on_the_board(board):
    cells = [
        cell
        for panel in board["panels"]
        for cell in itertools.product(
            range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"]),
            range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"]),
        )
    ]
    assert len(cells) == len(set(cells))
    rows = {y for _, y in cells}
    assert {x for x, _ in cells} == set(range(24))
    assert len(cells) == 24 * len(rows)


@boards()
def test_panels_have_ids_of_their_own(board):
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", ["node", "health"])
def test_the_rows_are_stages_of_the_pipeline_in_order(name):
    rows = [panel["title"] for panel in BOARDS[name]["panels"] if panel["type"] == "row"]
    stages = ["Sample", "Attribute", "Convert", "Account", "Expose"]
    found = [stage for stage in stages for row in rows if row.startswith(stage)]
    assert len(found) == len(rows)


@each_of(PANELS)
def test_a_panel_has_a_description(panel):
    assert panel["title"]
    assert panel["description"].endswith(".")


@each_of(PANELS)
def test_titles_fit_in_a_window_of_1200_pixels(panel):
    assert len(panel["title"]) <= 5.9 * panel["gridPos"]["w"]


@each_of(PANELS)
def test_a_number_of_a_panel_has_a_unit(panel):
    if panel["type"] != "table":
        assert panel["fieldConfig"]["defaults"]["unit"]
        return
    organize = panel["transformations"][-1]["options"]["renameByName"]
    units = {
        override["matcher"]["options"]: [each["id"] for each in override["properties"]]
        for override in panel["fieldConfig"]["overrides"]
    }
    for field, heading in organize.items():
        if field.startswith("Value"):
            assert "unit" in units[heading]


@each_of(PANELS)
def test_panels_have_built_in_types(panel):
    assert panel["type"] in REACT


@each_of(PANELS)
def test_a_panel_reads_the_chosen_data_source(panel):
    for source in (panel, *panel["targets"]):
        assert source["datasource"]["uid"] == "${datasource}"


@each_of(EXPRESSIONS)
def test_a_rate_fits_the_scrape_interval(expression):
    for window in re.findall(r"\brate\([^)]*\[([^]]+)\]", expression):
        assert window == "$__rate_interval" or "@ end()" in expression


@each_of(EXPRESSIONS)
def test_a_node_that_is_scraped_twice_is_not_added_up_twice(expression):
    amount = r"emissions_(?:device|run|attributed|unattributed)_(?:up|power|energy|carbon)"
    assert not re.search(
        rf"\b(?:sum|count)(?: by \([^)]*\) )?\(+(?:increase\()?{amount}", expression
    )


def test_idle_power_is_shown_if_no_run_holds_a_device():
    (idle,) = [q.expr for q in questions("fleet") if q.name == "fleet: Idle A"]
    held = "cluster:emissions_run_held_idle_energy_joules:rate5m"
    assert f"(sum(sum_over_time({held}[$__range])) or vector(0))" in idle


def test_a_node_without_the_intensity_that_grams_are_counted_with_has_none():
    (expr,) = [q.expr for q in questions("grid") if q.name == "grid: Without intensity A"]
    assert 'grams_per_kwh{signal="average",accounting="location"}' in expr


def test_runs_to_choose_from_are_those_that_were_recorded_which_is_less_to_read():
    (variable,) = [each for each in variables("run") if each["name"] == "run"]
    assert "emissions_run_info{" not in variable["query"]


def test_a_run_that_was_begun_again_is_not_shown_as_ended():
    (ended,) = [q.expr for q in questions("run") if q.name == "run: Runs C"]
    assert " unless on (run_id, job_id) (emissions_run_start_time_seconds" in ended


def test_a_range_is_shown_only_where_all_forecasts_have_one():
    ranges = {q.name: q.expr for q in questions("run") if "forecast_bound" in q.expr}
    assert len(ranges) == 8
    for expr in ranges.values():
        bounds, forecasts = re.search(r"and \((count\b.*) == (count\b.*\))\)", expr).groups()
        assert re.sub(r'_bound|,bound="\w+"', "", bounds) in forecasts


def test_the_lines_of_a_range_are_those_that_its_area_is_between():
    (panel,) = [each for title, each in PANELS["run"].items() if title.startswith("Emissions, f")]
    names = {target["legendFormat"] for target in panel["targets"]}
    named = set()
    for override in panel["fieldConfig"]["overrides"]:
        named.add(override["matcher"]["options"])
        named |= {
            each["value"] for each in override["properties"] if each["id"] == "custom.fillBelowTo"
        }
    assert named == {"forecast", "forecast, lower bound", "forecast, upper bound"} <= names


@each_of(EXPRESSIONS)
def test_a_total_follows_the_time_shown(expression):
    for window in re.findall(r"(?:_over_time|increase)\([^)]*\[([^]]+)\]", expression):
        assert window in {"$__range", "$__interval"}


@each_of(PANELS)
def test_bars_are_no_narrower_than_what_rules_record(panel):
    for target in panel["targets"]:
        if "$__interval" in target["expr"]:
            assert target["interval"] == "1m"


@each_of(PANELS)
def test_a_column_of_a_table_has_a_query(panel):
    if panel["type"] == "table" and len(panel["targets"]) > 1:
        organize = panel["transformations"][-1]["options"]
        fields = organize["renameByName"].keys() | organize["excludeByName"].keys()
        assert {f"Value #{target['refId']}" for target in panel["targets"]} <= fields


def test_each_dashboard_becomes_a_config_map_for_the_sidecar():
    made = yaml.safe_load((GENERATED / "kustomization.yaml").read_text())
    assert made["generatorOptions"]["labels"] == {"grafana_dashboard": "1"}
    files = [file.split("=")[1] for each in made["configMapGenerator"] for file in each["files"]]
    assert sorted(files) == sorted(f"{name}.json" for name in BOARDS)


def test_provisioning_finds_a_data_source_and_the_folder():
    deploy = ROOT / "deploy" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((deploy / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["type"] == "prometheus"
    (provider,) = yaml.safe_load((deploy / "dashboards" / "emissions.yaml").read_text())[
        "providers"
    ]
    assert provider["options"]["path"]
