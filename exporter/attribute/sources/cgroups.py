"""CPU time and memory of a cgroup, version 2 or 1; exited processes are included by the kernel."""

import os
from collections.abc import Mapping

from exporter.errors import Unavailable

V2 = ""
"""How /proc/PID/cgroup names the one hierarchy of version 2."""
NANOSECONDS_PER_MICROSECOND = 1_000


def mounts(procfs: str) -> dict[str, str]:
    """Mount points of cgroup hierarchies: `""` for version 2, else by controller."""
    found: dict[str, str] = {}
    with open(os.path.join(procfs, "self", "mountinfo"), encoding="utf-8") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            point, kind = left.split()[4], right.split()[0]
            if kind == "cgroup2":
                found.setdefault(V2, point)
            elif kind == "cgroup":
                for controller in right.split()[2].split(","):
                    found.setdefault(controller, point)
    return found


def paths(procfs: str, pid: int) -> dict[str, str]:
    """The cgroup of a process in each hierarchy, keyed like `mounts`. Raises OSError."""
    found = {}
    with open(os.path.join(procfs, str(pid), "cgroup"), encoding="utf-8") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for controller in controllers.split(","):
                found[controller] = path
    return found


class CgroupMeter:
    """One cgroup's clocks. Raises Unavailable if it has none of its own."""

    def __init__(self, mounted: Mapping[str, str], at: Mapping[str, str]) -> None:
        own = {name: path for name, path in at.items() if path != "/" and name in mounted}
        if not own.keys() & {V2, "cpuacct"}:
            raise Unavailable(
                "the process is in no cgroup of its own, so its cgroup is the whole machine; "
                "use scope tree, or start it in a cgroup, for example by systemd-run --scope"
            )
        self._files = {name: mounted[name] + path for name, path in own.items()}
        self.path = own[V2 if V2 in own else "cpuacct"]
        self.last_us = self.cpu_us()

    def advance_us(self) -> int:
        """CPU time since the last call; 0 once the cgroup is gone."""
        try:
            now_us = self.cpu_us()
        except OSError:
            return 0
        used, self.last_us = max(0, now_us - self.last_us), now_us
        return used

    def cpu_us(self) -> int:
        """CPU time since the cgroup was made, microseconds. Raises OSError when it is gone."""
        if V2 in self._files:
            with open(self._files[V2] + "/cpu.stat", "rb", buffering=0) as file:
                return int(file.read(64).split()[1])
        with open(self._files["cpuacct"] + "/cpuacct.usage", "rb", buffering=0) as file:
            return int(file.read(32)) // NANOSECONDS_PER_MICROSECOND

    def memory_bytes(self) -> int:
        """Anonymous and shared memory; 0 where no hierarchy accounts for it."""
        for hierarchy, names in (
            (V2, (b"anon", b"shmem")),
            ("memory", (b"total_rss", b"total_shmem")),
        ):
            try:
                with open(self._files[hierarchy] + "/memory.stat", "rb", buffering=0) as file:
                    rows = dict(row.split() for row in file.read(16384).splitlines())
            except (KeyError, OSError):
                continue
            return sum(int(rows.get(name, 0)) for name in names)
        return 0

    def empty(self) -> bool:
        """Whether no process is left in it, or it is gone."""
        hierarchy = V2 if V2 in self._files else "cpuacct"
        try:
            with open(self._files[hierarchy] + "/cgroup.procs", "rb", buffering=0) as file:
                return not file.read(16)
        except OSError:
            return True
