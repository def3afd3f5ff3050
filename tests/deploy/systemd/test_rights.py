"""What the unit's user may do without a capability, and what each drop-in gives it."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.deploy.systemd.test_unit import DROP_INS, settings
from tests.feeder import Package, PowercapTree
from tests.real import parts
from tests.real.parts import REPOSITORY, Daemon, let_others_in, until

pytestmark = pytest.mark.real
USER, GROUP, SOMEBODY = 64_321, 64_322, 64_323
"""Of the daemon, of those who may read the counters, and of another user."""
PACKAGES = [str(REPOSITORY), *(path for path in sys.path if path.endswith("site-packages"))]


def python() -> str:
    """One of this version that other users may run; or a skip."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{version}"):
        probe = [*setpriv(), candidate, "-c", "import exporter.daemon"]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return candidate
    pytest.skip(f"other users cannot use {sys.executable}")


def setpriv(*capabilities: str) -> tuple[str, ...]:
    """What starts a command as systemd does for a user with ambient capabilities."""
    names = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in capabilities)
    rights = (f"--inh-caps={names}", f"--ambient-caps={names}") if names else ("--inh-caps=-all",)
    return (
        *("setpriv", f"--reuid={USER}", f"--regid={USER}", f"--groups={GROUP}"),
        *("--no-new-privs", *rights, "env", f"PYTHONPATH={os.pathsep.join(PACKAGES)}"),
    )


def granted(name: str) -> tuple[str, ...]:
    """The capabilities of a drop-in."""
    (path,) = (path for path in DROP_INS if path.stem == name)
    return tuple(settings(path)["AmbientCapabilities"][0].split())


@pytest.fixture
def daemon(tmp_path, monkeypatch):
    """A daemon of another user, on a host whose counters only root may read; not begun."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root with setpriv can become another user")
    let_others_in(tmp_path)
    monkeypatch.setattr(parts, "COMMAND", [python(), "-m", "exporter"])
    with PowercapTree(str(tmp_path / "sys"), [Package(100, 20)]) as tree:
        for counter in (tmp_path / "sys").rglob("energy_uj"):
            counter.chmod(0o400)
        made = Daemon(tmp_path / "daemon", f"--path.sysfs={tmp_path / 'sys'}")
        os.chown(made.directory, USER, USER)
        made.prefix = setpriv()
        made.tree = tree
        yield made
        if made.process is not None:
            made.stop()


def methods(daemon: Daemon) -> set[str]:
    """How the processor's energy is got."""
    page = daemon.json("/api/v1/devices")["devices"]
    return {each["source"] for each in page if each["device"] == "cpu"}


def test_without_rule_and_capability_processors_are_estimated(daemon):
    assert methods(daemon.start()) == {"cpu_estimate"}


def test_the_group_of_the_counters_is_enough(daemon, tmp_path):
    for counter in (tmp_path / "sys").rglob("energy_uj"):
        os.chown(counter, 0, GROUP)
        counter.chmod(0o440)
    assert methods(daemon.start()) == {"rapl"}


def test_the_drop_in_for_counters_is_enough(daemon):
    daemon.prefix = setpriv(*granted("counters"))
    assert methods(daemon.start()) == {"rapl"}


@pytest.mark.parametrize(("capabilities", "seen"), [((), False), (granted("environments"), True)])
def test_environments_of_others_are_read_with_the_drop_in_alone(daemon, capabilities, seen):
    daemon.prefix = setpriv(*capabilities)
    environment = {"EMISSIONS_RUN_ID": "named-by-environment", "PATH": os.environ["PATH"]}
    with subprocess.Popen(["sleep", "60"], env=environment, user=SOMEBODY) as process:
        try:
            daemon.start()
            until(lambda: daemon.json("/api/v1/snapshot")["tick"] >= 3)
            # On a busy disk the ledger is created after the first ticks.
            found = until(lambda: daemon.json("/api/v1/runs"), what="the ledger is readable")
            runs = [run["run_id"] for run in found["runs"]]
            assert ("named-by-environment" in runs) is seen
        finally:
            process.terminate()
