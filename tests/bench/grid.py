"""What sources of intensity that hang cost: nothing may wait for them."""

import json
import socket
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.bench import cost
from tests.bench.scene import SETTLE_SECONDS, start
from tests.real.parts import Daemon, get, until

SOURCES = ("electricity_maps", "rte", "uk", "energy_charts", "energinet", "prometheus")
SCRAPES = 200
TURNS = 5


class Hanging(NamedTuple):
    """A daemon whose sources hang, beside one that has none."""

    ticks: Sequence[float]
    """CPU time of the main thread in ms, with sources that hang."""
    ticks_without: Sequence[float]
    scrape_ms: float
    """Wall time, the median of many."""
    scrape_ms_without: float
    rss_mb: float
    rss_mb_without: float

    @property
    def tick_ratio(self) -> float:
        return statistics.median(self.ticks) / statistics.median(self.ticks_without)

    @property
    def scrape_ratio(self) -> float:
        return self.scrape_ms / self.scrape_ms_without


def measure(directory: Path, ticks: int) -> Hanging:
    """Both at once, so that whatever else happens here happens to both."""
    with ExitStack() as ends:
        hole = ends.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        url = f"http://127.0.0.1:{hole.getsockname()[1]}"
        daemons = []
        for name, convert in {"with": _hanging(url), "without": {"zone": "DE"}}.items():
            home = directory / name
            (home / "sys").mkdir(parents=True)
            (home / "config.json").write_text(json.dumps({"convert": convert}))
            flags = f"--path.sysfs={home / 'sys'}", f"--config.file={home / 'config.json'}"
            daemon = Daemon(home / "daemon", *flags, "--log.level=error")
            process = start(daemon, EMISSIONS_EXPORTER_ELECTRICITY_MAPS_TOKEN="x")
            ends.callback(process.wait, 20)
            ends.callback(process.terminate)
            until(lambda daemon=daemon: get(daemon.url + "/-/ready"), what="it is ready")
            daemons.append((daemon, process.pid))
        time.sleep(SETTLE_SECONDS)
        loops: list[list[float]] = [[], []]
        for _ in range(TURNS):
            for loop, (daemon, pid) in zip(loops, daemons, strict=True):
                loop.extend(_ticks(daemon, pid, 2 * ticks // TURNS))
        walls: list[list[float]] = [[], []]
        for _ in range(SCRAPES):
            for wall, (daemon, _) in zip(walls, daemons, strict=True):
                began = time.perf_counter()
                get(daemon.url + "/metrics")
                wall.append((time.perf_counter() - began) * 1000)
        return Hanging(
            *loops,
            *map(statistics.median, walls),
            *(cost.resident_mb(pid) for _, pid in daemons),
        )


def _hanging(url: str) -> dict[str, object]:
    """Every source of Germany that there is, and more; all of them behind one silent server."""
    options: dict[str, dict[str, str]] = {name: {"url": url} for name in SOURCES}
    options["prometheus"]["query"] = "intensity"
    options["electricity_maps"]["zone"] = options["energy_charts"]["zone"] = "DE"
    return {"fallback": "any", "sources": [{name: options[name]} for name in SOURCES]}


def _ticks(daemon: Daemon, pid: int, count: int) -> list[float]:
    return list(cost.ticks(pid, daemon.json("/api/v1/snapshot")["at_ns"], count))
