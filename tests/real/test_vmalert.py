"""VictoriaMetrics scrapes a daemon, and vmalert evaluates the rules."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.real.parts import (
    REPOSITORY,
    Daemon,
    free_port,
    get,
    until,
)

pytestmark = [pytest.mark.real, pytest.mark.beside]

RULES = REPOSITORY / "deploy" / "prometheus"
SIX_TIMES = {"interval: 1m": "interval: 10s", "offset 1m": "offset 10s", "offset 30s": "offset 5s"}
"""Rules as they are, but evaluated every ten seconds."""
FASTER = ("-remoteWrite.flushInterval=833ms", "-search.latencyOffset=5s")
"""The defaults of vmalert and of VictoriaMetrics, as much faster as the rules."""
SETTINGS = {"convert": {"zone": "DE"}}


def begin(ends: ExitStack, log: Path, health: str, *command: str) -> None:
    """Start a program that ends with the test, and wait until it answers."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    ends.callback(process.wait)
    ends.callback(process.terminate)
    until(lambda: get(health), what=f"{command[0]} is ready")


@pytest.fixture(scope="module")
def vmalert(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address."""
    victoria, program = shutil.which("victoria-metrics"), shutil.which("vmalert")
    if victoria is None or program is None:
        pytest.skip("no victoria-metrics on this machine; Debian has it in a package")
    root = tmp_path_factory.mktemp("victoria")
    (root / "rules").mkdir()
    for path in RULES.glob("*/*.yaml"):
        text = path.read_text()
        for slow, fast in SIX_TIMES.items():
            text = text.replace(slow, fast)
        (root / "rules" / f"{path.parent.name}-{path.name}").write_text(text)
    with ExitStack() as ends:
        settings = root / "config.json"
        settings.write_text(json.dumps(SETTINGS))
        daemon = Daemon(root / "daemon", f"--config.file={settings}")
        ends.callback(daemon.stop)
        daemon.start()
        targets = [{"targets": [f"127.0.0.1:{daemon.port}"], "labels": {"instance": "a"}}]
        job = {"job_name": "emissions-exporter", "scrape_interval": "1s", "static_configs": targets}
        scraped = root / "scrape.json"
        scraped.write_text(json.dumps({"scrape_configs": [job]}))
        store, evaluator = (f"127.0.0.1:{free_port()}" for _ in range(2))
        begin(
            *(ends, root / "victoria.log", f"http://{store}/health", victoria),
            *(f"-storageDataPath={root}/data", f"-httpListenAddr={store}"),
            *(f"-promscrape.config={scraped}", FASTER[1]),
        )
        begin(
            *(ends, root / "vmalert.log", f"http://{evaluator}/health", program),
            *(f"-rule={root}/rules/*.yaml", f"-httpListenAddr={evaluator}", FASTER[0]),
            *(f"-datasource.url=http://{store}", f"-remoteWrite.url=http://{store}"),
            "-notifier.url=http://127.0.0.1:9",
        )
        yield f"http://{evaluator}"


def test_vmalert_evaluates_every_rule_without_an_error(vmalert: str) -> None:
    def rules() -> list[dict[str, Any]]:
        answer = json.loads(get(f"{vmalert}/api/v1/rules"))
        return [rule for group in answer["data"]["groups"] for rule in group["rules"]]

    until(lambda: all(rule["health"] != "unknown" for rule in rules()))
    assert len(rules()) > 80
    assert [rule for rule in rules() if rule["health"] != "ok" or rule["lastError"]] == []
