"""A real Slurm of one node, from Debian's packages, started by hand in a directory of its own."""

import contextlib
import os
import pwd
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.real.parts import free_port, until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
NVIDIA_MAJOR = 195
USER = 5
"""`games` of Debian: a user without rights who is on every machine."""
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={directory}/munge.sock
ProctrackType=proctrack/cgroup
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/cgroup
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=2
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmctldLogFile={logs}/slurmctld.log
SlurmdLogFile={logs}/slurmd.log
PrologFlags=Alloc
Prolog={prolog}
Epilog={epilog}
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str:
    """Why there can be no Slurm here; "": there can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"no {', '.join(missing)}: `make test` as root installs slurmd, slurmctld and munge"
    if os.geteuid() != 0:
        return "only root can run slurmd"
    if not os.access("/sys/fs/cgroup/freezer", os.W_OK):
        return "slurmd needs cgroups of version 1 that it may write to"
    return ""


class Slurm:
    """The node's jobs."""

    def __init__(self, directory: Path, logs: Path) -> None:
        self.logs = logs
        self.environment = {**os.environ, "SLURM_CONF": str(directory / "slurm.conf")}
        self.shared = directory / "shared"

    def submit(self, script: str, *options: str, user: int = USER) -> str:
        """Queue a script; the answer is the job's id."""
        path = self.shared / f"script-{len(list(self.shared.iterdir()))}"
        path.write_text(f"#!/bin/sh\n{script}\n")
        group = pwd.getpwuid(user).pw_gid  # else it stays that of root
        command = ["sbatch", "--parsable", f"--uid={user}", f"--gid={group}"]
        command += [f"--chdir={self.shared}", f"--output={self.shared}/%j.out"]
        return self._ask(*command, *options, str(path)).strip()

    def is_queued(self, job_id: str) -> bool:
        """Whether the job waits or runs, or any of its tasks where it is an array."""
        return job_id in self._ask("squeue", "--noheader", "--format=%A %F").split()

    def wait(self, job_id: str, timeout_seconds: float = 60.0) -> None:
        """Until the job has ended."""
        until(lambda: not self.is_queued(job_id), timeout_seconds, f"job {job_id} ends")

    def output(self, job_id: str) -> str:
        """What the job printed."""
        return (self.shared / f"{job_id}.out").read_text()

    def cancel_all(self) -> None:
        """End every job."""
        self._ask("scancel", "--partition=all")

    def _ask(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=20, check=False
        )
        assert done.returncode == 0, (command, done.stderr, self.log())
        return done.stdout

    def log(self) -> str:
        """The last of what its daemons wrote."""
        logs = sorted(self.logs.glob("*.log"))
        return "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in logs)


@contextlib.contextmanager
def slurm(logs: Path, prolog: Path, epilog: Path, gpus: int = 2) -> Iterator[Slurm]:
    """A Slurm that is ready for jobs.

    Not in a directory of pytest: each pytest that starts closes those to the users of jobs.
    """
    with contextlib.ExitStack() as ends:
        place = tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True)
        directory = Path(ends.enter_context(place))
        directory.chmod(0o755)
        made = Slurm(directory, logs)
        _configure(directory, logs, prolog, epilog, gpus)
        made.shared.mkdir()
        made.shared.chmod(0o1777)
        munge = [f"--key-file={directory}/munge.key", f"--socket={directory}/munge.sock"]
        munge += [f"--{kind}-file={directory}/munge.{kind}" for kind in ("pid", "log", "seed")]
        _start(ends, made, ["munged", "--foreground", "--force", *munge])
        until((directory / "munge.sock").exists, what="munge listens")
        _start(ends, made, ["slurmctld", "-D"])
        _start(ends, made, ["slurmd", "-D", "-N", socket.gethostname()])
        ends.callback(_end_jobs, made)
        until(lambda: _is_idle(made), 60, "the node is idle")
        yield made


def _end_jobs(made: Slurm) -> None:
    made.cancel_all()
    until(lambda: _is_idle(made), 60, "all jobs have ended")


def _is_idle(made: Slurm) -> bool:
    done = subprocess.run(
        ["sinfo", "--noheader", "--format=%T"],
        env=made.environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return done.stdout.strip() == "idle"


def _start(ends: contextlib.ExitStack, made: Slurm, command: list[str]) -> None:
    log = ends.enter_context((made.logs / f"{command[0]}.out.log").open("wb"))
    process = subprocess.Popen(command, env=made.environment, stdout=log, stderr=log)

    def stop() -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    ends.callback(stop)


def _configure(directory: Path, logs: Path, prolog: Path, epilog: Path, gpus: int) -> None:
    for name in ("state", "spool", "dev"):
        (directory / name).mkdir()
    key = directory / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    for number in range(gpus):
        os.mknod(
            directory / f"dev/nvidia{number}",
            stat.S_IFCHR | 0o666,
            os.makedev(NVIDIA_MAJOR, number),
        )
    host = socket.gethostname()
    (directory / "slurm.conf").write_text(
        CONFIGURATION.format(
            host=host,
            directory=directory,
            logs=logs,
            controller_port=free_port(),
            node_port=free_port(),
            prolog=prolog,
            epilog=epilog,
            gpus=gpus,
            cpus=os.cpu_count(),
        )
    )
    (directory / "gres.conf").write_text(
        f"NodeName={host} Name=gpu File={directory}/dev/nvidia[0-{gpus - 1}]\n"
    )
    (directory / "cgroup.conf").write_text(
        "CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nCgroupAutomount=no\n"
    )
