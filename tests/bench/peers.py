"""Other programs that measure energy, by turns on the same host, each alone; missing ones left out.

node_exporter and codecarbon are set up by `.ci/setup rivals`. Programs of the others are used if
they are in build/rivals or on the PATH.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.bench import cost
from tests.bench.pages import OWN, Scraped, await_page, scrape
from tests.bench.scene import CGROUPS, Scene
from tests.real.parts import REPOSITORY, Daemon, free_port, get, let_others_in

RIVALS = REPOSITORY / "build" / "rivals"
CODECARBON_PYTHON = REPOSITORY / "build" / "codecarbon" / "bin" / "python"
OWN_NAME = "emissions-exporter"
SETTLE_SECONDS = 2.0
IDLE_SECONDS = 5.0
"""The interval of Kepler, the longest of all."""
SCRAPE_PAUSE_SECONDS = 0.6
"""Longer than Kepler keeps an answer."""
BUILD_INFO = re.compile(rb'_build_info\{[^}]*\bversion="([^"]+)"')
HOST = """
mount --bind "$0/class" /sys/class && mount --bind "$0/devices/virtual" /sys/devices/virtual &&
exec "$@"
"""
"""Shows the made-up sockets to a program without a setting for them; in a mount namespace."""
KERNEL_LINKS = {
    "class/powercap/intel-rapl": "../../devices/virtual/powercap/intel-rapl",
    "devices/virtual/powercap/intel-rapl/subsystem": "../../../../class/powercap",
}
"""Of the control type, as the kernel makes them; CodeCarbon finds the sockets by them."""
CODECARBON = """
import codecarbon, time
from codecarbon import OfflineEmissionsTracker
tracker = OfflineEmissionsTracker(
    country_iso_code="DEU", measure_power_secs=1, save_to_file=False, log_level="error",
    allow_multiple_runs=True,
)
tracker.start()
print(codecarbon.__version__, flush=True)
time.sleep(600)
"""
ALUMET = """
plugins.prometheus-exporter.host = "127.0.0.1"
plugins.prometheus-exporter.port = {port}
plugins.rapl.no_perf_events = true
plugins.slurm.poll_interval = "1s"
{attributed}.expr = "cpu_energy * cpu_usage / 100.0"
{attributed}.ref = "cpu_energy"
{attributed}.retention_time = "30s"
{attributed}.per_resource.cpu_energy.metric = "rapl_consumed_energy"
{attributed}.per_resource.cpu_energy.resource_kind = "local_machine"
{attributed}.per_resource.cpu_energy.domain = "package_total"
{attributed}.per_consumer.cpu_usage.metric = "cpu_percent"
{attributed}.per_consumer.cpu_usage.kind = "total"
"""
ATTRIBUTED = "plugins.energy-attribution.formulas.attributed_energy"


class Program(NamedTuple):
    """How to run one of them."""

    command: list[str]
    port: int
    energy: bytes
    """What its first page with energy has; empty for a program without pages."""
    version: str = ""
    """If it is not on the page."""


class Turn(NamedTuple):
    """What one program cost, from its start to its end."""

    start_ms: float
    """Wall time from exec to the first page with energy."""
    scraped: Scraped
    rss_mb: float
    version: str
    """Empty if the program does not report it."""


def measure(scene: Scene, turns: int, scrapes: int) -> dict[str, list[Turn]]:
    """The turns of each program that is there, by name; nothing else runs meanwhile."""
    directory = scene.directory / "others"
    directory.mkdir()
    let_others_in(scene.sysfs)  # CEEMS is not root for long
    for link, target in KERNEL_LINKS.items():
        (scene.sysfs / link).symlink_to(target)
    found = {}
    for name, (file, make) in PROGRAMS.items():
        path = shutil.which(file, path=f"{RIVALS}:{os.environ['PATH']}")
        if path is not None:
            found[name] = make(path, scene, directory)
    measured: dict[str, list[Turn]] = {name: [] for name in found}
    for _ in range(turns):
        for name, program in found.items():
            try:
                measured[name].append(_turn(program, directory, scrapes))
            except AssertionError as error:  # another version, with other flags
                if name == OWN_NAME:
                    raise
                print(f"bench: {name}: {error}", file=sys.stderr)  # noqa: T201  a program prints
    return measured


def _turn(program: Program, directory: Path, scrapes: int) -> Turn:
    began = time.perf_counter()
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            program.command,
            cwd=directory,
            stdout=log if program.port else subprocess.PIPE,
            stderr=log,
        )
    try:
        version = program.version
        if process.stdout is None:
            await_page(process, program.port, program.energy)
        else:
            version = process.stdout.readline().decode().strip()
            assert version, f"{program.command} ended"
        start_ms = (time.perf_counter() - began) * 1000
        time.sleep(SETTLE_SECONDS)
        if program.port:
            shown = BUILD_INFO.search(get(f"http://127.0.0.1:{program.port}/metrics"))
            version = shown[1].decode().removeprefix("v") if shown else version
            server = process.pid, program.port
            (scraped,) = scrape([server], scrapes, SCRAPE_PAUSE_SECONDS, IDLE_SECONDS)
        else:
            scraped = Scraped(0, (), (), cost.per_second(process.pid, IDLE_SECONDS))
        return Turn(start_ms, scraped, cost.resident_mb(process.pid), version)
    finally:
        process.terminate()
        process.communicate(timeout=20)


def _own(python: str, scene: Scene, directory: Path) -> Program:
    daemon = Daemon(directory / "daemon", *scene.flags)
    return Program([python, *daemon.command[1:]], daemon.port, OWN)


def _alumet(program: str, scene: Scene, directory: Path) -> Program:
    port = free_port()
    settings = ALUMET.strip().format(port=port, attributed=ATTRIBUTED).splitlines()
    command = [
        *(program, f"--config={directory / 'alumet.toml'}"),  # which it makes, with its defaults
        "--plugins=rapl,slurm,energy-attribution,prometheus-exporter",
        *(f"--config-override={setting}" for setting in settings),
    ]
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"\d+(\.\d+)+", shown.stdout)
    energy = b"rapl_consumed_energy"
    return Program([*_with_sockets(scene), *command], port, energy, version[0] if version else "")


def _ceems(program: str, scene: Scene, directory: Path) -> Program:
    port = free_port()
    command = [
        *(program, f"--web.listen-address=127.0.0.1:{port}", f"--path.sysfs={scene.sysfs}"),
        *("--collector.slurm", f"--path.cgroupfs={CGROUPS}"),
        "--collector.cgroups.force-version=v2",  # where version 1 is mounted as well
    ]
    return Program(command, port, b"ceems_rapl_package_joules_total")


def _codecarbon(python: str, scene: Scene, directory: Path) -> Program:
    return Program([*_with_sockets(scene), python, "-c", CODECARBON], 0, b"")


def _kepler(program: str, scene: Scene, directory: Path) -> Program:
    port = free_port()
    command = [program, f"--web.listen-address=127.0.0.1:{port}", f"--host.sysfs={scene.sysfs}"]
    return Program(command, port, b"kepler_node_cpu_joules_total")


def _node_exporter(program: str, scene: Scene, directory: Path) -> Program:
    port = free_port()
    command = [program, f"--web.listen-address=127.0.0.1:{port}", f"--path.sysfs={scene.sysfs}"]
    return Program(command, port, b"node_rapl_package_joules_total")


def _with_sockets(scene: Scene) -> list[str]:
    return ["unshare", "--mount", "sh", "-c", HOST, str(scene.sysfs)]


PROGRAMS = {
    OWN_NAME: (sys.executable, _own),
    "Alumet": ("alumet-agent", _alumet),
    "CEEMS": ("ceems_exporter", _ceems),
    "CodeCarbon": (str(CODECARBON_PYTHON), _codecarbon),
    "Kepler": ("kepler", _kepler),
    "node_exporter": ("prometheus-node-exporter", _node_exporter),
}
"""The program of each, and the function that makes its command."""
