"""A driver of made-up GPUs for this process and others: what `fake_nvml.c` is told to show."""

import ctypes
import os
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pynvml

from exporter.model.recorded_host import Curve
from exporter.sample.sources.nvml import driver

if TYPE_CHECKING:
    import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")
LIBRARY = "libnvidia-ml.so.1"
PRIVATE = "libfake-nvml.so"
ALL_GPUS = -1
FOR_EVER = -1
UPDATE_SECONDS = 0.02
"""How often the counters of most cards move."""


def build(directory: Path, name: str = LIBRARY) -> Path:
    """The directory of the library, compiled there unless it is newer than its source."""
    library = directory / name
    if not library.exists() or library.stat().st_mtime < SOURCE.stat().st_mtime:
        directory.mkdir(parents=True, exist_ok=True)
        made = directory / f"{name}.{os.getpid()}"
        flags = ("-O2", "-fPIC", "-shared", f"-Wl,-soname,{name}", "-lpthread")
        subprocess.run(["cc", "-o", made, SOURCE, *flags], check=True)
        made.replace(library)
    return directory


def attach(directory: Path, fake: Path, patch: "pytest.MonkeyPatch") -> None:
    """Let the binding in this process use the library, for as long as `patch` lasts.

    By another name, or whoever asks for NVML after that would find it too. `fake` is what is shown.
    """
    library = ctypes.CDLL(str(build(directory, PRIVATE) / PRIVATE))
    patch.setenv("FAKE_NVML", str(fake))
    patch.setattr(pynvml, "nvmlLib", library)
    patch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    patch.setattr(driver, "_can_load", lambda: True)


class FakeNvml:
    """One host's GPUs, as its description says, and what is wrong with them now."""

    def __init__(self, directory: Path, host: Mapping[str, Any]) -> None:
        """`host` is a host for `replay`; its GPUs are shown. `directory` is what both share."""
        self.directory = directory
        self.gpus = [device for device in host["devices"] if device["kind"] == "gpu"]
        self._period = float(host["period_seconds"])
        self._curves = {gpu["id"]: self._curve(gpu["watts"]) for gpu in self.gpus if gpu["watts"]}
        self._lines: list[tuple[object, ...]] = []
        self._changes = 0
        self._tenants = 0
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "host").write_bytes(_text(self._host(host)).encode(errors="surrogateescape"))
        self._tell()

    def environment(self, library: Path) -> dict[str, str]:
        """What a process is given that is to see these GPUs; `library` is what `build` says."""
        return {"LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(self.directory)}

    def joules(self, uuid: str, begin: float, end: float) -> float:
        """What a GPU truly uses between two times of CLOCK_BOOTTIME, in seconds."""
        return self._curves[uuid].integral(begin, end)

    def fault(
        self,
        call: str,
        code: int = 0,
        *,
        gpu: int = ALL_GPUS,
        count: int = FOR_EVER,
        delay_ms: int = 0,
        field: int = 0,
    ) -> None:
        """Let a call answer `code`, after a delay; FOR_EVER: until the fault is healed.

        The call "field" is one field of nvmlDeviceGetFieldValues, "handle" any use of a handle.
        """
        self._add("fault", call, gpu, code, count, delay_ms, field)

    def force(self, call: str, value: float, *, gpu: int = ALL_GPUS) -> None:
        """Let a call that succeeds show this value, as is; "field186" is one field of many.

        It replaces what the call was forced to show before, with nothing in between.
        """
        fact = ("force", call, gpu)
        self._lines = [line for line in self._lines if line[:3] != fact]
        self._add(*fact, value)

    def mark_lost(self, gpu: int) -> None:
        """Let a GPU fall off the bus; those after it get lower indices."""
        self._add("absent", gpu)

    def reload(self, gpu: int) -> None:
        """Let its counter begin at 0 now."""
        self._add("origin", gpu, time.clock_gettime(time.CLOCK_BOOTTIME))

    def add_mj(self, gpu: int, mj: float) -> None:
        """Let its counter show so much more."""
        self._add("add", gpu, mj)

    def freeze(self, gpu: int, mj: float) -> None:
        """Let its counter stand still."""
        self._add("frozen", gpu, mj)

    def begin_process(self, gpu: int, pid: int, active: float) -> None:
        """Put a process on a GPU, as active as that from now on."""
        self._add("tenant", gpu, pid, 0, self._period, 0, 0, 0)
        self._add("active", self._tenants, 0, active)
        self._tenants += 1

    def end_process(self, pid: int) -> None:
        """Take a process off all GPUs."""
        self._add("gone", pid)

    def race(self, count: int) -> None:
        """Let so many lists of processes grow while they are read."""
        self._add("race", count)

    def partition(self, gpu: int, slices: int, instances: Iterable[Mapping[str, Any]]) -> None:
        """Change the MIG layout of a GPU; no slices: leave MIG mode."""
        self._lines += _layout(gpu, slices, instances)
        self._tell()

    def set_time(self, boot_seconds: float, wall: float) -> None:
        """Stop the driver's clocks there."""
        self._lines = [line for line in self._lines if line[0] != "now"]
        self._add("now", boot_seconds, wall)

    def heal(self) -> None:
        """Take all of it back."""
        self._lines = []
        self._tell()

    def _add(self, *fact: object) -> None:
        self._lines.append(fact)
        self._tell()

    def _tell(self) -> None:
        self._changes += 1
        control = self.directory / "control"
        made = self.directory / "control.next"
        made.write_text(_text([*self._lines, ("change", "." * self._changes)]), encoding="utf-8")
        made.replace(control)

    def _curve(self, points: Iterable[tuple[float, float]]) -> Curve:
        return Curve([(time, value) for time, value in points], self._period)

    def _host(self, host: Mapping[str, Any]) -> list[tuple[object, ...]]:
        lines: list[tuple[object, ...]] = [
            ("driver", host.get("driver", {}).get("version", "580.95.05")),
            ("time", self._period, UPDATE_SECONDS),
        ]
        numbers = {gpu["id"]: number for number, gpu in enumerate(self.gpus)}
        for number, gpu in enumerate(self.gpus):
            can = gpu.get("nvml", {})
            lines.append(
                (
                    *(
                        "gpu",
                        gpu["id"],
                        gpu["model"],
                        gpu.get("pci_bus_id", f"00000000:{number + 1:02X}:00.0"),
                    ),
                    round(gpu.get("power_limit_watts", 0) * 1000),
                    can.get("architecture", 9),
                    int(gpu.get("counter", True)),
                    int(can.get("power_average", True)),
                    int(can.get("power_instant", True)),
                    int(can.get("process_utilization", True)),
                    int(can.get("gpm", False)),
                )
            )
            # Index, minor number and place on the PCI bus are three orders that may differ.
            lines.append(("minor", number, can.get("minor", number)))
            lines += [("watts", number, *point) for point in gpu["watts"]]
            if "mig" in gpu:
                lines += _layout(number, gpu["mig"]["slices"], gpu["mig"]["instances"])
        for row in (*host.get("workload", ()), *host.get("strangers", ())):
            for seat in row.get("gpus", [row] if "pid" in row else []):
                if "pid" not in seat:
                    continue
                gpu = self.gpus[numbers[seat["id"]]]
                instances = gpu.get("mig", {}).get("instances", ())
                gi, ci = next(
                    ((i["gi"], i["ci"]) for i in instances if i["id"] == seat.get("partition")),
                    (0, 0),
                )
                place = (numbers[seat["id"]], seat["pid"], row["starts"], row["ends"], gi, ci)
                lines.append(("tenant", *place, int(seat.get("serves", False))))
                lines += [("active", self._tenants, *point) for point in seat.get("active", ())]
                self._tenants += 1
        return lines


def _layout(
    gpu: int, slices: int, instances: Iterable[Mapping[str, Any]]
) -> list[tuple[object, ...]]:
    return [
        ("slices", gpu, slices),
        *(
            ("instance", gpu, i["id"], i["gi"], i["ci"], i["slices"], i.get("multiprocessors", 1))
            for i in instances
        ),
    ]


def _text(lines: Iterable[tuple[object, ...]]) -> str:
    return "".join("\t".join(map(str, line)) + "\n" for line in lines)
