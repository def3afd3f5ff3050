"""What sources of intensity that hang cost: nothing may wait for them."""

import json
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

from tests.bench import cost
from tests.bench.scene import SETTLE_SECONDS, pid_of, running
from tests.real.parts import Daemon, get, until

SOURCES = ("electricity_maps", "rte", "uk", "energy_charts", "energinet", "prometheus")
SCRAPES = 200


class Hanging(NamedTuple):
    """A daemon whose sources hang, beside one that has none."""

    ticks: Sequence[float]
    """CPU time of the main thread in ms, with sources that hang."""
    ticks_without: Sequence[float]
    scrapes: Sequence[float]
    """Wall time in ms."""
    scrapes_without: Sequence[float]
    rss_mb: float
    rss_mb_without: float


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
            token = {"EMISSIONS_EXPORTER_ELECTRICITY_MAPS_TOKEN": "x"}
            ends.enter_context(running(daemon, **token))
            until(lambda daemon=daemon: get(daemon.url + "/-/ready"), what="it is ready")
            daemons.append(daemon)
        time.sleep(SETTLE_SECONDS)
        with ThreadPoolExecutor() as executor:
            loops = list(executor.map(_ticks, daemons, repeat(2 * ticks)))
        walls: list[list[float]] = [[], []]
        for _ in range(SCRAPES):
            for wall, daemon in zip(walls, daemons, strict=True):
                began = time.perf_counter()
                get(daemon.url + "/metrics")
                wall.append((time.perf_counter() - began) * 1000)
        return Hanging(
            *(loops[0], loops[1]),
            *(walls[0], walls[1]),
            *(cost.resident_mb(pid_of(daemon)) for daemon in daemons),
        )


def _hanging(url: str) -> dict[str, object]:
    """Every source of Germany that there is, and more; all of them behind one silent server."""
    options: dict[str, dict[str, str]] = {name: {"url": url} for name in SOURCES}
    options["prometheus"]["query"] = "intensity"
    options["electricity_maps"]["zone"] = options["energy_charts"]["zone"] = "DE"
    return {"fallback": "any", "sources": [{name: options[name]} for name in SOURCES]}


def _ticks(daemon: Daemon, count: int) -> list[float]:
    return list(cost.ticks(pid_of(daemon), daemon.json("/api/v1/snapshot")["at_ns"], count))
