"""History in a real Prometheus."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from exporter.integrations.codecarbon.csv_import import read_history
from tests.real.parts import COMMAND, REPOSITORY, free_port, get, until

EMISSIONS = REPOSITORY / "tests" / "unit" / "integrations" / "codecarbon" / "emissions"
FILES = [str(path) for path in sorted(EMISSIONS.glob("*.csv"))]


def command(*arguments: str) -> str:
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing: make tools")
def test_history_is_in_a_prometheus_to_the_microjoule(tmp_path: Path) -> None:
    text = tmp_path / "history.txt"
    text.write_text(command("import", "codecarbon", *FILES, "--node=laptop", "--openmetrics"))
    data = str(tmp_path / "data")
    make = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(text), data]
    subprocess.run(make, check=True, capture_output=True)
    (tmp_path / "prometheus.yml").write_text("{}")
    url = f"http://127.0.0.1:{free_port()}"
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                *("prometheus", f"--config.file={tmp_path}/prometheus.yml"),
                *(f"--storage.tsdb.path={data}", "--storage.tsdb.retention.time=50y"),
                f"--web.listen-address={url.removeprefix('http://')}",
            ],
            stderr=log,
        )
    try:
        until(lambda: get(url + "/-/ready"), what="prometheus is ready")
        runs = [run for path in FILES for run in read_history(path, node="laptop").runs]
        board = json.loads(
            command("leaderboard", f"--prometheus={url}", "--since=3650d", "--format=json")
        )
        assert {each["run_id"] for each in board["runs"]} == {run["run_id"] for run in runs}
        for run in runs:
            assert energy_uj(url, run["run_id"]) == sum(p["energy_uj"] for p in run["parts"])
    finally:
        server.terminate()
        server.wait(20)


def energy_uj(url: str, run_id: str) -> Any:
    said = command("report", run_id, f"--prometheus={url}", "--since=3650d", "--format=json")
    return json.loads(said)["energy_uj"]
