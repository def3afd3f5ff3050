"""A node with systemd, whose cgroups kubelet and containerd have made by it."""

from collections.abc import Sequence
from pathlib import Path

from tests.cluster.node import LONG_SECONDS, Node, hierarchies
from tests.real.parts import until

SYSTEMD = Path("/lib/systemd/systemd")
CGROUPS = Path("/sys/fs/cgroup")
MOUNTED = "/run/mounted"
TARGET = "cluster.target"
UNIT = "[Unit]\nDescription=Nothing but systemd itself\n"


class SystemdNode(Node):
    """A node with a cgroup namespace, in whose root cgroup systemd is the first process."""

    cgroup_driver = "systemd"
    namespaces = ("mount", "net", "pid", "cgroup", "uts")

    def cgroup_root(self) -> str:
        return "/"

    def in_cgroup(self, *command: str) -> Sequence[str]:
        below = self.cgroup if self._holder is None else ""
        move = f'for each in {CGROUPS}/*/{below}; do echo 0 >"$each/cgroup.procs"; done; exec "$@"'
        return ("sh", "-c", move, "sh", *command)

    def first_process(self, pause: Path) -> Sequence[str]:
        # `container` keeps it from devices, clock and console of the machine.
        begin = f"exec env container=other {SYSTEMD} --system --unit={TARGET} --log-target=null"
        return ("sh", "-c", f"until [ -e {MOUNTED} ]; do sleep 0.1; done; {begin}")

    def _mount(self) -> None:
        names = [path.name for path in hierarchies()]
        super()._mount()
        self.inside("mount", "--bind", "/dev/null", "/dev/console")
        self.inside("mount", "-t", "tmpfs", "tmpfs", str(CGROUPS))
        for name in names:
            path = str(CGROUPS / name)
            self.inside("mkdir", path)
            kind, options = ("cgroup", name)
            if name == "systemd":
                options = "none,name=systemd"
            elif name == "unified":
                kind, options = "cgroup2", "rw"
            self.inside("mount", "-t", kind, "-o", options, "cgroup", path)
        self.inside("mkdir", "-p", "/run/systemd/system")
        self.inside("tee", f"/run/systemd/system/{TARGET}", text=UNIT)
        self.inside("touch", MOUNTED)
        running = ("systemctl", "is-system-running", "--wait")
        until(
            lambda: self.inside(*running, check=False).strip() == "running",
            LONG_SECONDS,
            "systemd runs",
        )
