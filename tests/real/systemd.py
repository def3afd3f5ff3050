"""systemd as the first process of namespaces, on the cgroups of this machine.

It knows only the units that a test gives it. Those of the machine would remove files from /tmp, and
change settings of the kernel and device files.
"""

from collections.abc import Sequence
from pathlib import Path

from tests.real.namespaces import CGROUPS, Namespaces, hierarchies
from tests.real.parts import until

SYSTEMD = Path("/lib/systemd/systemd")
UNITS = "/run/units"
"""The only directory of units."""
TARGETS = ("sysinit.target", "basic.target", "shutdown.target", "default.target")
"""What services require; they contain nothing."""
MOUNTED = "/run/mounted"
BOOT_SECONDS = 30.0


class SystemdNamespaces(Namespaces):
    """A machine without hardware: systemd, with nothing that it would start by itself."""

    namespaces = ("mount", "pid", "cgroup", "uts")

    def in_cgroup(self, *command: str) -> Sequence[str]:
        below = self.cgroup if self._holder is None else ""
        move = f'for each in {CGROUPS}/*/{below}; do echo 0 >"$each/cgroup.procs"; done; exec "$@"'
        return ("sh", "-c", move, "sh", *command)

    def first_process(self) -> Sequence[str]:
        # `container` keeps it from devices, clock and console of the machine.
        settings = f"container=other SYSTEMD_UNIT_PATH={UNITS} SYSTEMD_GENERATOR_PATH=/run/none"
        begin = f"exec env {settings} {SYSTEMD} --system --log-target=null"
        return ("sh", "-c", f"until [ -e {MOUNTED} ]; do sleep 0.1; done; {begin}")

    def mount(self) -> None:
        names = [path.name for path in hierarchies()]
        super().mount()
        self.inside("mount", "--bind", "/dev/null", "/dev/console")
        self.inside("mount", "-t", "tmpfs", "tmpfs", str(CGROUPS))
        for name in names:
            kind, options = ("cgroup2", "rw") if name == "unified" else ("cgroup", name)
            if name == "systemd":
                options = "none,name=systemd"
            self.inside("mkdir", str(CGROUPS / name))
            self.inside("mount", "-t", kind, "-o", options, "cgroup", str(CGROUPS / name))
        for target in TARGETS:
            self.add_unit(target, "[Unit]\nDefaultDependencies=no\n")
        self.prepare()
        self.inside("touch", MOUNTED)
        until(self.is_running, BOOT_SECONDS, "systemd runs")

    def prepare(self) -> None:
        """What is to be there before systemd starts."""

    def add_unit(self, name: str, text: str) -> None:
        self.inside("mkdir", "-p", str(Path(UNITS, name).parent))
        self.inside("tee", f"{UNITS}/{name}", text=text)

    def is_running(self) -> bool:
        return self.inside("systemctl", "is-system-running", check=False).strip() == "running"
