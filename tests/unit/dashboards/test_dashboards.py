"""The dashboards as Grafana will read them."""

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from exporter.expose.catalogue import catalogue

ROOT = Path(__file__).resolve().parents[3]
DASHBOARDS = ROOT / "dashboards"
BOARDS = {path.stem: json.loads(path.read_text()) for path in DASHBOARDS.glob("generated/*.json")}
PANELS = [
    pytest.param(panel, id=f"{name}-{panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
EXPRESSIONS = [
    pytest.param(target["expr"], id=f"{case.id}-{target['refId']}")
    for case in PANELS
    for target in case.values[0]["targets"]
]
REACT = {"timeseries", "stat", "table", "state-timeline"}
"""Panel types that Grafana draws itself; those of Angular are gone since Grafana 12."""
NAME = re.compile(r"\b(?:[a-z_]+:)?(?:emissions|process)_[a-z0-9_]+(?::[a-z0-9_]+)?\b")
LABELS = re.compile(r"\{[^}]*\}|\b(?:by|on)\s*\([^)]*\)")


def rules():
    return [
        rule
        for path in sorted((ROOT / "deploy" / "prometheus").glob("*/*.yaml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


RULES = [pytest.param(rule, id=rule.get("record", rule.get("alert"))) for rule in rules()]


def unknown_names(expression):
    known = {family.name for family in catalogue()}
    known |= {rule["record"] for rule in rules() if "record" in rule}
    return set(NAME.findall(LABELS.sub("", expression))) - known


def boards():
    return pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


def panels():
    return pytest.mark.parametrize("panel", PANELS)


def expressions():
    return pytest.mark.parametrize("expression", EXPRESSIONS)


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


@expressions()
def test_every_metric_of_a_panel_exists(expression):
    assert unknown_names(expression) == set()


@pytest.mark.parametrize("rule", RULES)
def test_every_metric_of_a_rule_exists(rule):
    assert unknown_names(rule["expr"]) == set()


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
    queries = [re.sub(r"\$__\w+", "5m", case.values[0]) for case in EXPRESSIONS]
    group = {"name": "q", "rules": [{"record": f"q{n}", "expr": q} for n, q in enumerate(queries)]}
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [group]}))
    done = subprocess.run(
        [tool, "check", "rules", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@boards()
def test_a_dashboard_has_a_stable_address(board):
    assert re.fullmatch(r"[a-z-]{1,40}", board["uid"])
    assert board["id"] is None


@boards()
def test_a_dashboard_is_changed_in_its_source_alone(board):
    assert board["editable"] is False


@boards()
def test_a_dashboard_asks_for_data_source_and_nodes(board):
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert set(variables) == {"datasource", "instance"}
    assert variables["datasource"]["type"] == "datasource"
    assert unknown_names(variables["instance"]["query"]) == set()


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
    assert max(x for x, _ in cells) < 24


@boards()
def test_panels_have_ids_of_their_own(board):
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))


@boards()
def test_the_rows_are_the_stages_of_the_pipeline(board):
    rows = [panel["title"].split(":")[0] for panel in board["panels"] if panel["type"] == "row"]
    assert rows == ["Sample", "Attribute", "Convert", "Account", "Expose"]


@panels()
def test_a_panel_says_what_it_shows(panel):
    assert panel["title"]
    assert panel["description"].endswith(".")


@panels()
def test_a_panel_has_a_unit(panel):
    if panel["type"] == "table":
        units = [
            override["properties"][0]["value"] for override in panel["fieldConfig"]["overrides"]
        ]
        assert units
    else:
        assert panel["fieldConfig"]["defaults"]["unit"]


@panels()
def test_a_panel_is_of_a_type_that_grafana_draws_itself(panel):
    assert panel["type"] in REACT


@panels()
def test_a_panel_reads_the_chosen_data_source(panel):
    for source in (panel, *panel["targets"]):
        assert source["datasource"]["uid"] == "${datasource}"


@expressions()
def test_a_query_is_of_the_chosen_nodes(expression):
    assert 'instance=~"$instance"' in expression


@expressions()
def test_a_rate_fits_the_scrape_interval(expression):
    for window in re.findall(r"\brate\([^)]*\[([^]]+)\]", expression):
        assert window == "$__rate_interval"


@expressions()
def test_a_total_follows_the_time_shown(expression):
    for window in re.findall(r"_over_time\([^)]*\[([^]]+)\]", expression):
        assert window == "$__range"


@panels()
def test_a_column_of_a_table_has_a_query(panel):
    if panel["type"] == "table" and len(panel["targets"]) > 1:
        organize = panel["transformations"][-1]["options"]
        fields = organize["renameByName"].keys() | organize["excludeByName"].keys()
        assert {f"Value #{target['refId']}" for target in panel["targets"]} <= fields
