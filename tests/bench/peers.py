"""Others that do a part of the same work, measured the same way; None where they cannot be had."""

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.bench import cost
from tests.bench.pages import Scraped, scrape
from tests.real.parts import REPOSITORY, free_port, get, until

BUILD = REPOSITORY / "build"
NODE_EXPORTER = "prometheus-node-exporter"
FETCH_SECONDS = 120
CODECARBON = """
import time
from codecarbon import OfflineEmissionsTracker
tracker = OfflineEmissionsTracker(
    country_iso_code="DEU", measure_power_secs=1, save_to_file=False, log_level="error",
    allow_multiple_runs=True,
)
tracker.start()
print("measures", flush=True)
time.sleep(600)
"""


class Loop(NamedTuple):
    """What measuring each second costs."""

    cpu_ms: float
    """Per second."""
    rss_mb: float


def node_exporter(scrapes: int, idle_seconds: float) -> Scraped | None:
    """Debian's package, unpacked and never installed."""
    program = _found_node_exporter()
    if program is None:
        return None
    port = free_port()
    process = subprocess.Popen(
        [program, f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: get(f"http://127.0.0.1:{port}/metrics"), what="node_exporter answers")
        return scrape(process.pid, port, scrapes, idle_seconds)
    finally:
        process.terminate()
        process.wait(20)


def codecarbon(directory: Path, seconds: float) -> Loop | None:
    """Its own loop at 1 s, in a virtual environment of its own."""
    python = _installed_codecarbon()
    if python is None:
        return None
    process = subprocess.Popen(
        [python, "-c", CODECARBON],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            return None
        time.sleep(2)
        began, before = time.monotonic(), cost.process_ms(process.pid)
        time.sleep(seconds)
        used = cost.process_ms(process.pid) - before
        return Loop(used / (time.monotonic() - began), cost.resident_mb(process.pid))
    finally:
        process.terminate()
        process.communicate(timeout=20)


def _found_node_exporter() -> str | None:
    program = BUILD / "debian" / "usr" / "bin" / NODE_EXPORTER
    if not program.exists() and shutil.which("apt-get"):
        packages = BUILD / "packages"
        packages.mkdir(parents=True, exist_ok=True)
        _done(["apt-get", "-qq", "download", NODE_EXPORTER], packages)
        for package in packages.glob(f"{NODE_EXPORTER}_*.deb"):
            _done(["dpkg-deb", "--extract", str(package), str(BUILD / "debian")], packages)
    return str(program) if program.exists() else shutil.which(NODE_EXPORTER)


def _installed_codecarbon() -> str | None:
    python = BUILD / "codecarbon" / "bin" / "python"
    if not python.exists():
        home = str(BUILD / "codecarbon")
        BUILD.mkdir(exist_ok=True)
        if not _done([sys.executable, "-m", "venv", home], BUILD):
            return None
        _done([str(python), "-m", "pip", "install", "--quiet", "codecarbon"], BUILD)
    return str(python) if _done([str(python), "-c", "import codecarbon"], BUILD) else None


def _done(command: list[str], directory: Path) -> bool:
    """Whether the command succeeded in time."""
    quiet = subprocess.DEVNULL
    try:
        done = subprocess.run(
            command, cwd=directory, stdout=quiet, stderr=quiet, timeout=FETCH_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
