"""Plays constant powers into a made-up powercap tree, exactly, for tests that need a RAPL host.

As a library: `PowercapTree(root, [Package(100, 20)]).advance(seconds)`. As a program it follows
CLOCK_BOOTTIME and leaves `truth.json` and `steps` beside the tree, from which the exact energy that
every zone showed at any CLOCK_BOOTTIME follows:

    python tests/feeder.py --root DIR --package 100:20 --package 60:10 --seconds 60
"""

import argparse
import bisect
import json
import os
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

RANGE_UJ = 262_143_328_850
APART_UJ = 1_000_000_000
"""Between the counters of two packages at time zero."""
POWERCAP = "devices/virtual/powercap/intel-rapl"
STEP = struct.Struct("<qq")
"""CLOCK_BOOTTIME after a write, and the time since the beginning that was written; nanoseconds."""
FIELD = 20
"""Counters are padded to one length, so that one write replaces the whole of another."""


class Package(NamedTuple):
    """One socket. `core` is inside the package's power, `dram` is not."""

    watts: float
    dram_watts: float | None = None
    core_watts: float | None = None
    limit_watts: float = 350.0
    range_uj: int = RANGE_UJ
    initial_uj: int | None = None
    """None: another value for every package, as on a real machine."""


class Zone(NamedTuple):
    """One counter: `initial_uj` at time zero, then `watts`, starting again at `wrap_uj`."""

    watts: float
    initial_uj: int
    wrap_uj: int

    def used_uj(self, elapsed_ns: int) -> int:
        """Exact energy since time zero, rounded down as a counter does."""
        return round(self.watts * 1_000_000) * elapsed_ns // 1_000_000_000

    def counter_uj(self, elapsed_ns: int) -> int:
        """What the counter shows."""
        return (self.initial_uj + self.used_uj(elapsed_ns)) % self.wrap_uj


@dataclass(frozen=True)
class Truth:
    """What was played: `t0_ns` is the CLOCK_BOOTTIME at which every counter was initial."""

    t0_ns: int
    zones: dict[str, Zone]

    def used_uj(self, zone: str, at_ns: int) -> int:
        """Exact energy of a zone from `t0_ns` until `at_ns`."""
        return self.zones[zone].used_uj(at_ns - self.t0_ns)

    def write(self, path: str) -> None:
        zones = {name: zone._asdict() for name, zone in self.zones.items()}
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"t0_ns": self.t0_ns, "zones": zones}, file, indent=2)

    def shown_uj(self, zone: str, at_ns: int, steps: "Steps") -> int:
        """The same, as the counter showed it at `at_ns`: it stands still between two steps."""
        return self.zones[zone].used_uj(steps.before(at_ns))

    @classmethod
    def read(cls, path: str) -> "Truth":
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        zones = {name: Zone(**fields) for name, fields in document["zones"].items()}
        return cls(document["t0_ns"], zones)


class Steps:
    """When counters were written: also one who plays may have to wait for a processor."""

    def __init__(self, path: str) -> None:
        """Those until now."""
        with open(path, "rb") as file:
            content = file.read()
        whole = len(content) - len(content) % STEP.size
        found = list(STEP.iter_unpack(content[:whole]))
        self._written_ns = [written_ns for written_ns, _ in found]
        self._elapsed_ns = [elapsed_ns for _, elapsed_ns in found]

    def before(self, at_ns: int) -> int:
        """What had elapsed by the last step that was written before CLOCK_BOOTTIME `at_ns`."""
        number = bisect.bisect_right(self._written_ns, at_ns)
        return self._elapsed_ns[number - 1] if number else 0


class PowercapTree:
    """A sysfs tree with one zone per package and its dram and core, counters kept open.

    `zones` and `paths` are by the ids that the exporter gives: `package-0`, `package-0-dram`.
    """

    def __init__(self, root: str, packages: Sequence[Package]) -> None:
        self.root = str(root)
        self.elapsed_ns = 0
        self.zones: dict[str, Zone] = {}
        self.paths: dict[str, str] = {}
        for number, package in enumerate(packages):
            if package.initial_uj is None:
                package = package._replace(initial_uj=number * APART_UJ)  # noqa: PLW2901
            zone = f"intel-rapl:{number}"
            name = f"package-{number}"
            path = os.path.join(self.root, POWERCAP, zone)
            self._add(name, name, path, package.watts, package)
            parts = {"core": package.core_watts, "dram": package.dram_watts}
            given = {part: watts for part, watts in parts.items() if watts is not None}
            for child, (part, watts) in enumerate(given.items()):
                inside = os.path.join(path, f"{zone}:{child}")
                self._add(f"{name}-{part}", part, inside, watts, package)
        self._files = {name: os.open(self._energy(name), os.O_WRONLY) for name in self.paths}
        self.write_at(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            os.close(file)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.write_at(self.elapsed_ns + round(seconds * 1_000_000_000))

    def write_at(self, elapsed_ns: int) -> None:
        """Write every counter as it is `elapsed_ns` after time zero."""
        self.elapsed_ns = elapsed_ns
        for name, zone in self.zones.items():
            text = f"{zone.counter_uj(elapsed_ns):<{FIELD}}\n"
            os.pwrite(self._files[name], text.encode(), 0)

    def _add(self, name: str, shown: str, path: str, watts: float, package: Package) -> None:
        assert package.initial_uj is not None
        self.zones[name] = Zone(watts, package.initial_uj, package.range_uj + 1)
        self.paths[name] = path
        os.makedirs(path)
        texts = {
            "name": shown,
            "energy_uj": f"{0:<{FIELD}}",
            "max_energy_range_uj": str(package.range_uj),
            "constraint_0_name": "long_term",
            "constraint_0_power_limit_uw": str(round(package.limit_watts * 1_000_000)),
        }
        for file_name, text in texts.items():
            with open(os.path.join(path, file_name), "w", encoding="ascii") as file:
                file.write(f"{text}\n")
        by_class = os.path.join(self.root, "class/powercap")
        os.makedirs(by_class, exist_ok=True)
        os.symlink(os.path.relpath(path, by_class), os.path.join(by_class, os.path.basename(path)))

    def _energy(self, name: str) -> str:
        return os.path.join(self.paths[name], "energy_uj")


def play(tree: PowercapTree, seconds: float, step_seconds: float) -> None:
    """Follow CLOCK_BOOTTIME for `seconds`, writing every `step_seconds`."""
    t0_ns = _now_ns()
    with open(os.path.join(tree.root, "steps"), "wb", buffering=0) as steps:
        Truth(t0_ns, tree.zones).write(os.path.join(tree.root, "truth.json"))
        while tree.elapsed_ns < seconds * 1_000_000_000:
            tree.write_at(_now_ns() - t0_ns)
            steps.write(STEP.pack(_now_ns(), tree.elapsed_ns))
            time.sleep(step_seconds)


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _package(text: str) -> Package:
    watts, _, dram_watts = text.partition(":")
    return Package(
        float(watts), float(dram_watts) if dram_watts else None, core_watts=float(watts) * 0.6
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", required=True, help="becomes the sysfs of the made-up host")
    parser.add_argument(
        "--package", type=_package, action="append", required=True, metavar="WATTS[:DRAM_WATTS]"
    )
    parser.add_argument("--wrap-package-0-after-joules", type=float, metavar="N")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--step", type=float, default=0.05, help="seconds between two writes")
    given = parser.parse_args()
    packages: list[Package] = given.package
    if given.wrap_package_0_after_joules is not None:
        before_uj = round(given.wrap_package_0_after_joules * 1_000_000)
        packages[0] = packages[0]._replace(initial_uj=RANGE_UJ + 1 - before_uj)
    with PowercapTree(given.root, packages) as tree:
        play(tree, given.seconds, given.step)


if __name__ == "__main__":
    main()
