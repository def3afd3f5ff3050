"""A budget over two nodes is overrun: a real Prometheus sees it, a real Alertmanager says it."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from exporter.cli.main import main
from tests.grid.server import GridServer, document
from tests.real.parts import REPOSITORY, Alertmanager, Daemon, Prometheus, can_alert, until

pytestmark = [
    pytest.mark.real,
    pytest.mark.beside,
    pytest.mark.skipif(
        not can_alert(),
        reason="prometheus-alertmanager is not installed; it is a package of Debian",
    ),
]

REPLAY = REPOSITORY / "exporter" / "data" / "replay" / "two-socket.json"
RULES = REPOSITORY / "deploy" / "prometheus"
FASTER = {"interval: 1m": "interval: 2s", "offset 1m": "offset 2s", "offset 30s": "offset 1s"}
"""Rules as they are, but evaluated every two seconds."""


class Scene:
    """Two daemons that play hosts, and what watches over them."""

    def __init__(self, directory: Path, ends: ExitStack, capsys: Any) -> None:
        self.directory = directory
        self.rules = directory / "rules"
        self.rules.mkdir()
        self._budgets = directory / "budgets.yaml"
        for path in (*RULES.glob("rules/*.yaml"), *RULES.glob("alerts/*.yaml")):
            self._write(path.name, path.read_text())
        self.webhook = GridServer(lambda _: document({}))
        ends.callback(self.webhook.stop)
        self.daemons = {}
        for name in ("n1", "n2"):
            config = directory / f"{name}.json"
            settings = {"sample": {"replay": str(REPLAY)}, "convert": {"zone": "DE"}}
            config.write_text(json.dumps(settings))
            daemon = Daemon(directory / name, f"--config.file={config}", "--log.level=error")
            ends.callback(daemon.stop)
            self.daemons[name] = daemon.start()
        self.allow(0.05, capsys)
        alertmanager = Alertmanager(directory / "alertmanager", f"{self.webhook.url}/hook")
        ends.callback(alertmanager.stop)
        self.prometheus = Prometheus(
            directory / "prometheus",
            self.daemons,
            f"{self.rules}/*.yaml",
            alertmanager.address,
        )
        ends.callback(self.prometheus.stop)

    def allow(self, grams: float, capsys: Any) -> None:
        """Have a budget of so many grams for everything."""
        self._budgets.write_text(
            json.dumps({"budgets": [{"name": "all", "grams": grams, "period": "quarter"}]})
        )
        capsys.readouterr()
        assert main(["rules", "--budgets", str(self._budgets)]) == 0
        self._write("budgets.yaml", capsys.readouterr().out)

    def said(self, status: str) -> list[dict[str, Any]]:
        """Alerts on the budget that reached the webhook with this status."""
        alerts = [
            alert for asked in self.webhook.asked for alert in json.loads(asked.body)["alerts"]
        ]
        return [
            alert
            for alert in alerts
            if alert["status"] == status
            and alert["labels"]["alertname"] == "EmissionsBudgetExhausted"
        ]

    def _write(self, name: str, text: str) -> None:
        for slow, fast in FASTER.items():
            text = text.replace(slow, fast)
        (self.rules / name).write_text(text)


@pytest.fixture
def scene(tmp_path: Path, capsys: Any) -> Iterator[Scene]:
    with ExitStack() as ends:
        yield Scene(tmp_path, ends, capsys)


def test_an_overrun_budget_reaches_the_webhook_and_resolves_when_it_is_raised(
    scene: Scene, capsys: Any
) -> None:
    until(lambda: scene.said("firing"), 60, "the alert reaches the webhook")
    alert = scene.said("firing")[0]
    assert alert["labels"] == {
        "alertname": "EmissionsBudgetExhausted",
        "budget": "all",
        "period": "quarter",
        "severity": "critical",
    }
    assert "is exhausted" in alert["annotations"]["summary"]
    assert all(rule["health"] != "err" for rule in scene.prometheus.rules())
    spent = scene.prometheus.value('budget:emissions_budget_grams:spent{budget="all"}')
    # One scrape may be missing.
    emitted = scene.prometheus.value("sum(last_over_time(emissions_device_carbon_grams_total[1m]))")
    assert 0.05 <= spent <= emitted
    refuses_what_matches_no_run(scene, capsys)
    scene.allow(1e6, capsys)
    scene.prometheus.reload()
    limit = 'sum(emissions_budget_limit_grams{budget="all"}) == 1e6'
    until(lambda: scene.prometheus.query(limit), what="the new limit is in force")
    until(lambda: scene.said("resolved"), 60, "its end reaches the webhook")
    assert scene.prometheus.value('budget:emissions_budget_grams:spent{budget="all"}') >= spent


def refuses_what_matches_no_run(scene: Scene, capsys: Any) -> None:
    path = scene.directory / "mistyped.yaml"
    path.write_text("budgets:\n- {name: all, grams: 1, period: day}\n- {name: x, kwh: 1, ")
    with path.open("a") as file:
        file.write("period: day, of: {user: nobody}}\n")
    capsys.readouterr()
    asked = ["rules", "--budgets", str(path), "--prometheus", scene.prometheus.url]
    assert main(asked) == 1
    said = capsys.readouterr().err
    assert 'line 3: x: no run in Prometheus matches emissions_run_info{user="nobody"}; ' in said
    assert main([*asked[:-1], "http://127.0.0.1:9"]) == 1
    assert "127.0.0.1:9" in capsys.readouterr().err
