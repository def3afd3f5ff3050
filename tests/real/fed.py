"""A daemon on a made-up host whose exact energy is known, and what its pages show of it."""

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import pairwise
from pathlib import Path
from typing import Any

from exporter.expose.metrics import metric_families
from tests.feeder import Package, PowercapTree
from tests.real.parts import Daemon, busy, get, until

DURABLE = {family.name for family in metric_families() if family.durable}
DEVICES = ("package-0", "package-0-dram")


class Host:
    """A made-up host whose counters run until `stop`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tree = PowercapTree(str(root), [Package(100, 20)])
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._play)

    def play(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.ident:
            self._thread.join()

    def used_uj(self) -> dict[str, int]:
        """The truth, from the first reading until now."""
        return {name: self.tree.zones[name].used_uj(self.tree.elapsed_ns) for name in DEVICES}

    def _play(self) -> None:
        began = time.monotonic_ns()
        while not self._stopping.wait(0.005):
            self.tree.write_at(time.monotonic_ns() - began)


@contextlib.contextmanager
def daemon_of_100_watts(root: Path) -> Iterator[Daemon]:
    """A daemon on a made-up host whose package draws 100 W, always."""
    host = Host(root / "host")
    with host.tree, ExitStack() as ends:
        ends.callback(host.stop)
        host.play()
        daemon = Daemon(root / "daemon", f"--path.sysfs={host.root}").start()
        ends.callback(daemon.stop)
        yield daemon


@contextlib.contextmanager
def fed_daemon(
    root: Path, state: Path, prefix: tuple[str, ...] = ()
) -> Iterator[tuple[Host, Daemon]]:
    """A daemon with a run open, that reads often and commits each second."""
    config = root / "config.json"
    settings = {
        "sample": {"interval_seconds": 0.2},
        "account": {"commit_seconds": 1},
        # Tests of other files have runs of the same id at the same time.
        "attribute": {"read_environments": False},
    }
    config.write_text(json.dumps(settings))
    with ExitStack() as ends:
        host = Host(root / "sys")
        ends.enter_context(host.tree)
        ends.callback(host.stop)
        daemon = Daemon(state.parent, f"--path.sysfs={host.root}", f"--config.file={config}")
        daemon.prefix = prefix
        daemon.start()
        ends.callback(daemon.stop)
        until(lambda: len(daemon.devices()) == len(DEVICES), what="the counters were read")
        host.play()
        run = daemon.run("--run-id=long", "--", *busy(120))
        ends.callback(run.communicate)
        ends.callback(run.terminate)
        until(lambda: any('run_id="long"' in series for series in counters(daemon)))
        yield host, daemon


def counters(daemon: Daemon) -> dict[str, float]:
    """What the page shows of everything that must never step back."""
    lines = get(daemon.url + "/metrics").decode().splitlines()
    series = [line.rpartition(" ") for line in lines if line.split("{")[0] in DURABLE]
    return {name: float(value) for name, _, value in series}


def stepped_back(pages: list[dict[str, float]]) -> list[str]:
    """The series that went, or fell, from one page to the next."""
    return [
        f"{name}: {before[name]} -> {after.get(name)}"
        for before, after in pairwise(pages)
        for name in before
        if not after.get(name, -1.0) >= before[name]
    ]


def counted_uj(daemon: Daemon) -> dict[str, int]:
    return {name: daemon.devices()[name]["counted"]["energy_uj"] for name in DEVICES}


def health(daemon: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = daemon.json("/api/v1/snapshot")["health"]
    return found


def cumulative_uj(daemon: Daemon) -> dict[str, int]:
    """Since the ledger began, over all restarts."""
    return {name: daemon.devices()[name]["cumulative"]["energy_uj"] for name in DEVICES}


def kept_uj(state: Path, table: str) -> dict[str, int]:
    """What a table of the ledger in `state` has of each device."""
    sql = (
        f"SELECT name, sum(energy_uj) FROM {table} JOIN device ON device.id = device_id GROUP BY 1"
    )
    with closing(sqlite3.connect(state / "ledger.sqlite")) as ledger:
        return dict(ledger.execute(sql).fetchall())
