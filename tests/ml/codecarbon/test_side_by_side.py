"""CodeCarbon and our tracker in one program, on one made-up RAPL of known power."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.fed import Host
from tests.real.parts import REPOSITORY, Daemon

WATTS, DRAM_WATTS = 100.0, 20.0
JOULES_PER_KWH = 3.6e6
LIKE_A_KERNEL = """
set -e
mount -t tmpfs none /sys/class
mkdir -p /sys/class/powercap/intel-rapl
cd /sys/class/powercap
ln -s /sys/class/powercap intel-rapl/subsystem
for zone in "$1"/class/powercap/*; do ln -s "$(realpath "$zone")" .; done
for zone in "$1"/devices/virtual/powercap/intel-rapl/*; do ln -s "$zone" intel-rapl; done
cd "$OLDPWD"
shift
exec "$@"
"""
SECONDS = 20
FIELDS = ("duration", "cpu_energy", "ram_energy", "energy_consumed")
PROGRAM = f"""
import json, time
from codecarbon import OfflineEmissionsTracker as Theirs
from exporter.integrations.codecarbon import OfflineEmissionsTracker as Ours

def counters():
    paths = (f"/sys/class/powercap/intel-rapl:{{zone}}/energy_uj" for zone in ("0", "0:0"))
    return [int(open(path).read()) / 1e6 for path in paths]

asked = dict(country_iso_code="FRA", measure_power_secs=1, log_level="error")
theirs, ours = Theirs(output_file="theirs.csv", **asked), Ours(output_file="ours.csv", **asked)
theirs.start()
at = [counters()]
ours.start()
at.append(counters())
time.sleep({SECONDS})
at.append(counters())
ours.stop()
at.append(counters())
theirs.stop()
fields = {FIELDS}
ends = ours.final_emissions_data, theirs.final_emissions_data
print(json.dumps([at, *([getattr(end, name) for name in fields] for end in ends)]))
"""


def in_namespace(sysfs: str, *command: str) -> list[str]:
    """A command that sees the counters where a kernel has them, and it alone."""
    return ["unshare", "--mount", "sh", "-c", LIKE_A_KERNEL, "sh", sysfs, *command]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """With a daemon that sees no other runs, whatever else goes on on the machine."""
    made = Host(tmp_path / "host")
    with made.tree:
        root = str(made.root)
        tried = subprocess.run(in_namespace(root, "true"), check=False, capture_output=True)
        if tried.returncode:
            pytest.skip(f"no mount namespace can be made here: {tried.stderr.decode()}")
        made.play()
        config = tmp_path / "config.yaml"
        config.write_text("attribute: {read_environments: false}\n")
        flags = (f"--path.sysfs={root}", f"--config.file={config}")
        daemon = Daemon(tmp_path / "daemon", *flags).start()
        monkeypatch.setenv("EMISSIONS_EXPORTER_EXPOSE_SOCKET", daemon.socket)
        yield made
        daemon.stop()
        made.stop()


def test_ours_is_within_half_a_percent_of_the_truth(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = subprocess.run(
        in_namespace(str(host.root), sys.executable, "-c", PROGRAM),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    at, *ends = json.loads(done.stdout.splitlines()[-1])
    ours, theirs = (dict(zip(FIELDS, end, strict=True)) for end in ends)
    least, most = (
        [end - begin for begin, end in zip(at[1 - n], at[2 + n], strict=True)] for n in (0, 1)
    )
    with capsys.disabled():
        sys.stdout.write(
            f"\ntruth: {sum(least):.1f} to {sum(most):.1f} J, "
            f"cpu {WATTS:.2f} W, memory {DRAM_WATTS:.2f} W\n"
            f"ours: {said(ours)}\nCodeCarbon: {said(theirs)}, which is its model\n"
        )
    for name, low, high in zip(("cpu_energy", "ram_energy"), least, most, strict=True):
        assert low * 0.995 <= joules(ours, name) <= high * 1.005
    assert sum(least) * 0.995 <= joules(ours, "energy_consumed") <= sum(most) * 1.005


def joules(end: dict[str, float], name: str) -> float:
    return end[name] * JOULES_PER_KWH


def watts(end: dict[str, float], name: str) -> float:
    return joules(end, name) / end["duration"]


def said(end: dict[str, float]) -> str:
    return (
        f"{joules(end, 'energy_consumed'):.1f} J in {end['duration']:.2f} s, "
        f"cpu {watts(end, 'cpu_energy'):.2f} W, memory {watts(end, 'ram_energy'):.2f} W"
    )
