"""The rules and alerts of deploy/prometheus, by Prometheus' own tool, and their runbook."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from exporter.cli.main import main

pytestmark = pytest.mark.beside

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
CASES = sorted(Path(__file__).parent.glob("*.yaml"))
BUDGETS = Path(__file__).parent / "generated" / "budgets.yaml"
"""Made of the example of budgets."""
COPY = "https://git.example/emissions/"
"""Address of the repository, in what is made."""
RULES = [
    *sorted(PROMETHEUS.glob("rules/*.yaml")),
    *sorted(PROMETHEUS.glob("alerts/*.yaml")),
    BUDGETS,
]


def name(path):
    return path.stem


def promtool(*arguments):
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed; it comes with Prometheus")
    done = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def rules():
    return [
        rule
        for path in RULES
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


def alerts():
    return [pytest.param(rule, id=rule["alert"]) for rule in rules() if "alert" in rule]


@pytest.mark.real
@pytest.mark.parametrize("path", RULES, ids=name)
def test_prometheus_accepts_the_rules(path):
    promtool("check", "rules", "--lint=all", "--lint-fatal", path)


@pytest.mark.real
def test_prometheus_accepts_the_scrape_configuration():
    promtool("check", "config", PROMETHEUS / "prometheus.yml")


@pytest.mark.real
@pytest.mark.parametrize("path", CASES, ids=name)
def test_the_rules_give_the_right_numbers(path):
    promtool("test", "rules", path)


def test_every_rule_has_a_value_in_a_case():
    cases = "".join(path.read_text(encoding="utf-8") for path in CASES)
    names = {rule.get("record") or rule["alert"] for rule in rules()}
    assert {name for name in names if name not in cases} == set()


def test_the_rules_of_the_example_are_what_the_command_makes_of_it(capsys):
    example = str(PROMETHEUS / "budgets.example.yaml")
    assert main(["rules", "--budgets", example, f"--runbook.url={COPY}docs/runbook.md"]) == 0
    assert capsys.readouterr().out == BUDGETS.read_text(encoding="utf-8")


def test_recorded_names_are_level_metric_operations():
    for rule in rules():
        if "record" in rule and not rule["record"].startswith("emissions_budget_limit_"):
            assert re.fullmatch(r"[a-z_]+:emissions_[a-z_]+:[a-z0-9_]+", rule["record"])


@pytest.mark.parametrize("rule", alerts())
def test_an_alert_says_how_bad_it_is_and_what_is_wrong(rule):
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]


@pytest.mark.parametrize("rule", alerts())
def test_the_runbook_of_an_alert_exists(rule):
    page, anchor = rule["annotations"]["runbook_url"].removeprefix(COPY).split("#")
    headings = re.findall(r"^## (.+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert rule["alert"] in headings
    assert anchor == rule["alert"].lower()
