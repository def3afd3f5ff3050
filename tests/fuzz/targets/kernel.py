"""Files of procfs, sysfs and cgroups; job files of Slurm; texts of the NVIDIA driver."""

import os
from contextlib import suppress

from exporter.attribute.identity import claim_from_environment
from exporter.attribute.sources import cgroups, slurm_cgroups
from exporter.attribute.sources.cgroups import CgroupMeter
from exporter.attribute.sources.job_files import parse_job_file
from exporter.attribute.sources.kube import pod_cgroups
from exporter.attribute.sources.procfs import Process, Procfs
from exporter.clock import read_boot_id
from exporter.errors import Unavailable
from exporter.expose.process_collector import ProcessCollector
from exporter.job_variables import job_from_environment
from exporter.model.cpu_clocks import count_cpus, parse_proc_stat
from exporter.privileges import read_capabilities
from exporter.sample.power_model import cpu_power_model, read_cpuinfo
from exporter.sample.powercap import find_zones
from exporter.sample.sources.dram_estimate import memory_bytes
from exporter.sample.sources.nvml.calls import decode_text
from exporter.sample.sources.rapl import RaplCollector
from tests.fuzz.inputs import StillClock, directory, file_with, files_with

PID = 4242
PROCESS_FILES = ("stat", "status", "environ", "comm", "cgroup")
CGROUP_FILES = ("cpu.stat", "memory.stat", "cgroup.events", "cgroup.procs", "cpuacct.usage")
ZONE = "class/powercap/intel-rapl:0"
ZONE_FILES = (
    *("name", "energy_uj", "max_energy_range_uj"),
    *("constraint_0_power_limit_uw", "constraint_0_max_power_uw"),
)


def process_files(data: bytes) -> None:
    """stat, status, environ, comm and cgroup of one process."""
    root = "proc"
    files_with(data, [f"{PID}/{name}" for name in PROCESS_FILES], root)
    procfs = Procfs(str(directory() / root), 4, read_environments=True)
    process = procfs.discover(str(PID))
    known = process or Process(PID, 7, 1)
    procfs.read_clocks(known)
    procfs.read_memory(known)
    procfs.read_name(known)
    procfs.read_claim(known)
    procfs.close(known)
    with suppress(OSError):
        cgroups.cgroup_paths(str(directory() / root), PID)


def machine_files(data: bytes) -> None:
    """stat, cpuinfo, meminfo, self/status, the boot id and self/stat of procfs."""
    names = ("stat", "cpuinfo", "meminfo", "self/status", "sys/kernel/random/boot_id", "self/stat")
    root = files_with(data, names, "machine")
    (directory() / "machine" / "self" / "fd").mkdir(exist_ok=True)
    cpu_power_model(read_cpuinfo(root))
    with suppress(Unavailable):
        memory_bytes(root)
    read_capabilities(root)
    read_boot_id(root, StillClock())
    ProcessCollector(root).read()
    stat = (directory() / "machine" / "stat").read_bytes()
    count_cpus(stat)
    with suppress(ValueError):
        parse_proc_stat(stat, 10_000)


def mount_table(data: bytes) -> None:
    """self/mountinfo, from which the cgroup hierarchies are found."""
    file_with(data, "mounts/self/mountinfo")
    root = str(directory() / "mounts")
    with suppress(OSError):
        cgroups.cgroup_mounts(root)
    with suppress(OSError):
        pod_cgroups._mounts(root)


def cgroup_files(data: bytes) -> None:
    """Files of one cgroup, of version 2 and of version 1."""
    point = files_with(data, [f"job/{name}" for name in CGROUP_FILES], "cgroup")
    for hierarchy in ("", "cpuacct"):
        with suppress(OSError, Unavailable):
            at = dict.fromkeys((hierarchy, "memory"), "/job")
            meter = CgroupMeter(dict.fromkeys(at, point), at)
            meter.advance_us()
            meter.memory_bytes()
            meter.has_processes()
    with suppress(OSError):
        slurm_cgroups._listed_pids(os.path.join(point, "job", "cgroup.procs"))
    pod_cgroups._is_populated(os.path.join(point, "job"))


def environment(data: bytes) -> None:
    """The environment of a process."""
    claim = claim_from_environment(data)
    if claim is not None:
        repr(claim).encode()
        assert all(text.isprintable() for text in (claim.run_id, claim.job_id, claim.name))
    text = data.decode("utf-8", "surrogateescape")
    variables = dict(each.partition("=")[::2] for each in text.split("\0"))
    job_from_environment(lambda name: variables.get(name, ""))


def powercap_zone(data: bytes) -> None:
    """Files of a powercap zone."""
    root = files_with(data, [f"{ZONE}/{name}" for name in ZONE_FILES], "sys")
    for zone in find_zones(root, "model", "vendor", "rapl"):
        zone.refresh_limits()
        zone.energy.close()
    with suppress(Unavailable):
        collector = RaplCollector(root, StillClock(), "boot", pause=lambda _: None)
        collector.read()
        collector.release()


def slurm_job_file(data: bytes) -> None:
    """A job file of Slurm's prolog."""
    with suppress(ValueError):
        repr(parse_job_file(data)).encode()


def nvml_text(data: bytes) -> None:
    """A string of the NVIDIA driver."""
    decode_text(data)


TARGETS = (
    process_files,
    machine_files,
    mount_table,
    cgroup_files,
    environment,
    powercap_zone,
    slurm_job_file,
    nvml_text,
)
