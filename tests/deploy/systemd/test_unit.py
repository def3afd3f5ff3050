"""The unit as systemd understands it, and what its rules make of a machine's files."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.feeder import Package, PowercapTree
from tests.real.parts import REPOSITORY

UNITS = REPOSITORY / "deploy" / "systemd"
UNIT = UNITS / "emissions-exporter.service"
DROP_INS = sorted((UNITS / "emissions-exporter.service.d").glob("*.conf"))
HARDENED = 2.5
BREAKS = {
    "PrivateDevices": "hides the GPUs",
    "PrivateNetwork": "hides the page",
    "PrivateUsers": "makes other users' processes unreadable",
    "ProtectProc": "hides other users' processes",
    "ProcSubset": "hides /proc/stat and /proc/meminfo",
    "RootDirectory": "hides the agent socket from others",
    "DynamicUser": "gives the counters to no known group",
    "InaccessiblePaths": "may hide what is measured",
}


def tool(name: str) -> str:
    if found := shutil.which(name):
        return found
    pytest.skip(f"{name} is missing; on Debian: apt-get install systemd")


def settings(path: Path) -> dict[str, list[str]]:
    """The values of each key, in order."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


@pytest.fixture
def installed(tmp_path):
    """The unit with a program that is there."""
    text = UNIT.read_text()
    program = settings(UNIT)["ExecStart"][0].split()[0]
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace(program, "/bin/true"))
    return unit


@pytest.fixture
def root(tmp_path):
    """The root of a machine with counters, as the kernel and then our rules leave them."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files to a group")
    etc = tmp_path / "etc"
    for kind in ("sysusers", "tmpfiles"):
        (etc / f"{kind}.d").mkdir(parents=True)
        shutil.copy(
            UNITS / f"emissions-exporter.{kind}.conf", etc / f"{kind}.d" / "emissions-exporter.conf"
        )
    with PowercapTree(str(tmp_path / "sys"), [Package(100, 20), Package(60)]):
        for file in (tmp_path / "sys").rglob("energy_uj"):
            file.chmod(0o400)
        for program, *flags in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"]):
            name = "emissions-exporter.conf"
            subprocess.run([tool(program), f"--root={tmp_path}", *flags, name], check=True)
        yield tmp_path


@pytest.mark.parametrize("drop_in", [None, *DROP_INS], ids=lambda path: path and path.stem)
def test_systemd_finds_no_fault(installed, drop_in):
    if drop_in:
        (installed.parent / f"{UNIT.name}.d").mkdir()
        shutil.copy(drop_in, installed.parent / f"{UNIT.name}.d")
    command = [tool("systemd-analyze"), "verify", "--man=no", str(installed)]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    about_us = [line for line in verified.stderr.splitlines() if UNIT.name in line]
    assert verified.returncode == 0, verified.stderr
    assert about_us == []


@pytest.mark.parametrize("drop_in", [None, *DROP_INS], ids=lambda path: path and path.stem)
def test_systemd_calls_it_hardened(tmp_path, drop_in):
    # Offline, drop-ins are not looked for: their lines come last in the one file.
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text() + (drop_in.read_text() if drop_in else ""))
    command = [tool("systemd-analyze"), "security", "--offline=true", "--no-pager", str(unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert exposure, said
    assert float(exposure[1]) <= HARDENED


@pytest.mark.parametrize("key", BREAKS)
def test_nothing_is_set_that_would_blind_the_exporter(key):
    for path in (UNIT, *DROP_INS):
        assert key not in settings(path), BREAKS[key]


def test_devices_are_nvidias_alone():
    unit = settings(UNIT)
    assert unit["DevicePolicy"] == ["closed"]
    assert unit["DeviceAllow"] == ["char-nvidia* rw"]


def test_a_drop_in_permits_the_devices_without_which_kfd_does_not_show_its_users():
    (drop_in,) = [path for path in DROP_INS if "DeviceAllow" in settings(path)]
    assert drop_in.name == "amd-gpus.conf"
    assert settings(drop_in) == {"DeviceAllow": ["char-drm rw"]}


def test_the_default_has_no_capability_and_each_drop_in_what_it_says():
    assert settings(UNIT)["CapabilityBoundingSet"] == [""]
    for path in DROP_INS:
        granted = settings(path)
        assert granted.get("AmbientCapabilities") == granted.get("CapabilityBoundingSet")


def test_state_and_socket_are_where_systemd_makes_room_for_them():
    unit = settings(UNIT)
    assert unit["ProtectSystem"] == ["strict"]
    assert {f"%S/{unit['StateDirectory'][0]}", f"%t/{unit['RuntimeDirectory'][0]}/agent.sock"} == {
        setting.partition("=")[2] for setting in unit["Environment"]
    }


def test_the_socket_outlives_a_restart_for_containers_that_mount_it():
    assert settings(UNIT)["RuntimeDirectoryPreserve"] == ["yes"]


def test_counters_of_packages_and_memory_are_opened_to_the_group_alone(root):
    (line,) = (
        line for line in (root / "etc/group").read_text().splitlines() if line[:10] == "emissions:"
    )
    counters = list((root / "sys/devices").rglob("energy_uj"))
    assert len(counters) == 3
    for counter in counters:
        found = counter.stat()
        assert (found.st_mode & 0o777, found.st_uid) == (0o440, 0)
        assert found.st_gid == int(line.split(":")[2])


def test_the_user_can_log_in_nowhere(root):
    (line,) = (
        line for line in (root / "etc/passwd").read_text().splitlines() if "emissions" in line
    )
    assert line.endswith("nologin")
    assert settings(UNIT)["User"] == settings(UNIT)["Group"] == ["emissions"]


def test_an_error_in_the_settings_is_not_tried_again_and_all_else_is():
    unit = settings(UNIT)
    assert unit["Restart"] == ["always"]
    assert unit["RestartPreventExitStatus"] == [str(os.EX_CONFIG)]
