"""A real Prometheus with all rules that scrapes two daemons, which play made-up hosts.

A Slurm node of eight GPUs and a Kubernetes node in MIG mode: jobs, pods, users and labels, runs
that count and say how far they are, budgets, GPUs that are held and idle or held by nobody, a
server of tokens, and a grid whose first source answers one node and not the other.
"""

import json
import math
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from exporter.data import DIRECTORY
from tests.dashboards.hosts import playing
from tests.grid.server import Answer, Asked, GridServer
from tests.grid.shapes import uk
from tests.real.parts import COMMAND, REPOSITORY, Daemon, Prometheus, until

HERE = Path(__file__).resolve().parent
DEPLOY = REPOSITORY / "deploy" / "prometheus"
FASTER = {
    "interval: 1m": "interval: 2s",
    "interval: 10m": "interval: 2s",
    "offset 1m": "offset 2s",
    "offset 30s": "offset 1s",
    "* 60 > 0": "* 2 > 0",
    "for: 1h": "for: 2s",
    "[5m]": "[20s]",
}
"""Rules as they are, but evaluated every two seconds instead of every minute."""
FIRING = (
    'alertname="EmissionsBudgetExhausted"',
    'alertname="EmissionsIntensityFallback"',
    'alertname="EmissionsRunBudgetExhausted",run_id="chat-8b"',
)
TIMES = 5.0
"""As fast as a host of `exporter/data/replay`: two of its minutes in 24 seconds."""
NODES = {"gpu-a1": ("cluster-node", 190.0), "gpu-b1": ("mig-node", 80.0)}
"""The host that each node plays, and at which second of its period."""
SERVED = {"chat-70b-0": (1150, 3.4), "chat-8b-0": (2700, 11.5)}
"""Tokens and requests a second of the pods that vLLM serves from."""
BUDGETS_GRAMS = {"chat-8b": 0.3, "llm-pretrain": 650, "sweep-07": 1.2}
"""Of runs: one is over it at once, one comes near it, one will."""
SECOND = {"grams_per_kwh": 18, "accounting": "market", "source": "contract"}


class Scene:
    """What a dashboard can ask: `url` is the address of a Prometheus."""

    def __init__(self, directory: Path, ends: ExitStack) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory, self._ends = directory, ends
        self._intensities()
        daemons = {name: self._daemon(name, *of) for name, of in NODES.items()}
        vllm = GridServer(_Vllm().answer)
        ends.callback(vllm.stop)
        write_rules(directory / "rules")
        self._prometheus = Prometheus(
            directory / "prometheus",
            daemons,
            f"{directory}/rules/*.yaml",
            more=(
                {
                    "job_name": "vllm",
                    "static_configs": [{"targets": [vllm.url.removeprefix("http://")]}],
                },
            ),
        )
        ends.callback(self._prometheus.stop)
        self.url = self._prometheus.url

    def ready(self) -> None:
        """Wait until every rule recorded something, and alerts fire."""
        until(lambda: not self._unrecorded(), 60, "every rule has recorded something")
        for alert in FIRING:
            fires = f'ALERTS{{{alert},alertstate="firing"}}'
            until(partial(self._prometheus.query, fires), 30, f"{alert} fires")

    def _unrecorded(self) -> set[str]:
        named = {rule["name"] for rule in self._prometheus.rules() if rule["type"] == "recording"}
        found = self._prometheus.query('count by (__name__) ({__name__=~".*(:|_limit_).*"})')
        return named - {row["metric"]["__name__"] for row in found}

    def _daemon(self, name: str, host: str, second: float) -> Daemon:
        """A daemon that plays a host of `exporter/data/replay`."""
        played = self._directory / f"{name}.json"
        described = json.loads((DIRECTORY / "replay" / f"{host}.json").read_text())
        for run in described["workload"]:
            if run["run_id"] in BUDGETS_GRAMS:
                run["budget_grams"] = BUDGETS_GRAMS[run["run_id"]]
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        played.write_text(json.dumps(playing(described, second, TIMES, now)))
        config = self._directory / f"{name}.config.json"
        settings = {
            "sample": {"replay": str(played)},
            "attribute": {"exported_labels": ["team"]},
            "convert": self._convert[name],
        }
        config.write_text(json.dumps(settings))
        daemon = Daemon(self._directory / name, f"--config.file={config}", "--log.level=error")
        self._ends.callback(daemon.stop)
        return daemon.start()

    def _intensities(self) -> None:
        """The API of Great Britain answers the first node; a file stands in for it at the other."""
        now = time.time()
        half_hour = now - now % 1800
        ahead = [(half_hour + 1800 * n, 190 + 40 * math.sin(n / 4)) for n in range(48)]
        grid = GridServer(uk([(half_hour - 1800, 201.0)], ahead))
        self._ends.callback(grid.stop)
        rows = ((now + 15 * n, 205 + 30 * math.sin(n / 3)) for n in range(240))
        path = self._directory / "meter.csv"
        lines = (f"{at:.0f},{grams:.0f}\n" for at, grams in rows)
        path.write_text(f"time,grams_per_kwh\n{now - 3600:.0f},205\n{''.join(lines)}")
        file = {"path": str(path), "basis": "direct", "source": "meter of the hall"}
        both: dict[str, Any] = {"zone": "GB", "pue": 1.2, "second": [{"static": SECOND}]}
        self._convert = {
            "gpu-a1": {**both, "sources": [{"uk": {"url": grid.url}}, {"file": file}]},
            "gpu-b1": {**both, "sources": [{"uk": {"url": "http://127.0.0.1:9"}}, {"file": file}]},
        }


def write_rules(directory: Path) -> None:
    """All rules and alerts, and those of the budgets, evaluated every two seconds."""
    directory.mkdir()
    texts = {
        f"{path.parent.name}-{path.name}": path.read_text() for path in DEPLOY.glob("*/*.yaml")
    }
    command = [*COMMAND, "rules", "--budgets", str(HERE / "budgets.yaml")]
    texts["budgets.yaml"] = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    for name, text in texts.items():
        faster = text
        for slow, fast in FASTER.items():
            faster = faster.replace(slow, fast)
        (directory / name).write_text(faster)


class _Vllm:
    """The counters of vLLM in the pods of the second node, with the labels of their scrape.

    Names and labels by `vllm/v1/metrics/loggers.py`, where the client library adds `_total`.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()

    def answer(self, _: Asked) -> Answer:
        passed = 600 + time.monotonic() - self._began
        lines = []
        for pod, (tokens, requests) in SERVED.items():
            labels = f'namespace="serving",pod="{pod}",model_name="llm",engine="0"'
            done = f'{labels},finished_reason="stop"'
            lines.append(f"vllm:generation_tokens_total{{{labels}}} {tokens * passed:.0f}\n")
            lines.append(f"vllm:request_success_total{{{done}}} {requests * passed:.0f}\n")
        return 200, {"Content-Type": "text/plain; version=0.0.4"}, "".join(lines).encode()


@contextmanager
def scene(directory: Path) -> Iterator[Scene]:
    """A scene that keeps its files in `directory` and stops all it started at the end."""
    with ExitStack() as ends:
        yield Scene(directory, ends)
