"""GPU holdings of runs: allocated by a scheduler, or found by their processes on the GPU."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from exporter.attribute.sources.process_table import ProcessTable
from exporter.attribute.sources.procfs import Process
from exporter.model.readings import Device, DeviceInfo, DeviceKind, GpuActivity, GpuProcess
from exporter.model.runs import RunKey
from exporter.model.workload import GpuHolding


class GpuGrant(NamedTuple):
    """A GPU, or a part of one, that a scheduler allocated to a run, used or not."""

    run: RunKey
    gpu: str
    """Id of a device or of a partition."""
    units: int = 1
    """Replicas of it, if it is shared."""
    units_of: int = 1
    """All replicas of it; 1: the run has it exclusively."""
    since_ns: int = 0
    """CLOCK_BOOTTIME."""
    slices: int = 0
    """Slices of each of `units` MIG instances of `gpu` with unknown UUIDs; 0: the grant is `gpu`
    itself."""
    slices_of: int = 0
    """All slices of the GPU; 0: unknown."""


class GpuGrants:
    """Merges grants with the holdings of processes, so that allocated idle GPUs are held too.

    A run inside the run with the grant holds it as long as it has a process there. `is_within`
    returns whether the first run is the second, or inside it.
    """

    def __init__(self, is_within: Callable[[RunKey, RunKey], bool]) -> None:
        self._is_within = is_within
        self._free_ns: dict[tuple[str, RunKey], int] = {}
        """Since when no inner run uses a run's grant."""
        self._before: tuple[GpuHolding, ...] = ()
        """Open holdings of the last tick."""

    def merge(
        self,
        used: Sequence[GpuHolding],
        grants: Iterable[GpuGrant],
        activities: Mapping[Device, GpuActivity],
        at_ns: int,
    ) -> tuple[GpuHolding, ...]:
        """All open holdings, and those that ended since the last tick.

        `used` are the holdings of processes.
        """
        left = list(used)
        held = []
        known = set()
        for grant in resolve_mig_grants(grants, activities):
            known.add((grant.gpu, grant.run))
            device, partition = locate_gpu(grant.gpu, activities)
            inside = [
                holding
                for holding in left
                if holding.device == device
                and holding.partition in ("", partition)
                and self._is_within(holding.run, grant.run)
            ]
            for holding in inside:
                left.remove(holding)
            given = GpuHolding(device, grant.run, partition, grant.units, grant.units_of)
            held += self._of(grant, given, inside, at_ns)
        self._free_ns = {key: ns for key, ns in self._free_ns.items() if key in known}
        rows = _without_servers((*left, *held))
        now = tuple(row for row in rows if row.until_ns is None)
        ended = () if now == self._before else tuple(self._ended(rows, at_ns))
        self._before = now
        return (*rows, *ended)

    def _ended(self, rows: Sequence[GpuHolding], at_ns: int) -> Iterator[GpuHolding]:
        """Holdings that ended: at the start of the next holder's, else now."""
        here, before = set(map(_holding_identity, rows)), set(map(_holding_identity, self._before))
        for row in self._before:
            if _holding_identity(row) not in here:
                begun = (
                    new.since_ns
                    for new in rows
                    if new.device == row.device
                    and new.partition == row.partition
                    and _holding_identity(new) not in before
                )
                yield row._replace(until_ns=max(row.since_ns, min([at_ns, *begun])))

    def _of(
        self, grant: GpuGrant, given: GpuHolding, inside: Sequence[GpuHolding], at_ns: int
    ) -> list[GpuHolding]:
        """The holdings of a grant: of the inner runs, else of the run that has it."""
        inner = [row for row in inside if row.run != grant.run and not row.is_proxy]
        held = [
            given._replace(run=holding.run, since_ns=holding.since_ns, until_ns=holding.until_ns)
            for holding in inner
        ]
        # A process of the run from before the grant was known extends the holding.
        own = (row.since_ns for row in inside if row.run == grant.run and not row.is_proxy)
        granted_ns = min([grant.since_ns, *own])
        since_ns = self._free_ns.setdefault((grant.gpu, grant.run), granted_ns)
        if any(holding.until_ns is None for holding in inner):
            self._free_ns[grant.gpu, grant.run] = at_ns
            return held
        if inner:
            since_ns = max(holding.until_ns or 0 for holding in inner)
            self._free_ns[grant.gpu, grant.run] = since_ns
        return [*held, given._replace(since_ns=since_ns)]


def _holding_identity(row: GpuHolding) -> tuple[Device, RunKey, str, int]:
    """The identity of a holding."""
    return row.device, row.run, row.partition, row.since_ns


def _without_servers(rows: tuple[GpuHolding, ...]) -> tuple[GpuHolding, ...]:
    """Filter out holdings of proxy processes on parts with another holder, for which they work."""
    return tuple(
        row
        for row in rows
        if not row.is_proxy
        or not any(
            other.device == row.device
            and not other.is_proxy
            and (other.partition == row.partition or "" in (other.partition, row.partition))
            for other in rows
        )
    )


def resolve_mig_grants(
    grants: Iterable[GpuGrant], activities: Mapping[Device, GpuActivity]
) -> list[GpuGrant]:
    """Resolve grants of MIG instances without a UUID.

    Candidates are the instances of their size that are not granted by UUID. With several
    candidates, each run holds a fraction of each, in total as many as it was granted; their
    processes show which one is used. Until the driver lists any, the run holds as many slices of
    the GPU.
    """
    found: dict[tuple[RunKey, str], GpuGrant] = {}
    unnamed: list[GpuGrant] = []
    for grant in grants:
        if grant.slices:
            unnamed.append(grant)
        else:
            found[grant.run, grant.gpu] = grant
    named = {gpu for _, gpu in found}
    wanted: Counter[tuple[str, int]] = Counter()
    for grant in unnamed:
        wanted[grant.gpu, grant.slices] += grant.units
    for run, gpu, units, _, since_ns, slices, slices_of in unnamed:
        reading = activities.get(Device(DeviceKind.GPU, gpu))
        parts = reading.partitions if reading is not None else ()
        free = [part.id for part in parts if part.slices == slices and part.id not in named]
        of = max(len(free), wanted[gpu, slices])
        if not free:
            before = found.get((run, gpu), GpuGrant(run, gpu, 0, since_ns=since_ns))
            of = max(reading.slices if reading is not None else 0, slices_of, before.units_of)
            units = before.units + units * slices  # noqa: PLW2901  of the GPU
            since_ns = min(before.since_ns, since_ns)  # noqa: PLW2901
        for each in free or [gpu]:
            found[run, each] = GpuGrant(run, each, units, max(units, of), since_ns)
    return list(found.values())


def locate_gpu(gpu: str, activities: Mapping[Device, GpuActivity]) -> tuple[Device, str]:
    """The device of an id, and the partition if it is the id of a partition."""
    for device, reading in activities.items():
        if any(part.id == gpu for part in reading.partitions):
            return device, gpu
    return Device(DeviceKind.GPU, gpu), ""


MPS_SERVER = b"nvidia-cuda-mps-server"[:15]
"""Truncated as in /proc/PID/comm."""


class _HoldingKey(NamedTuple):
    """Identifies a holding of processes; a run has at most one for each key."""

    device: Device
    run: RunKey
    partition: str
    is_proxy: bool


class GpuProcessHoldings:
    """Tracks GPU contexts of processes in runs. `run_of` returns the run of a process."""

    def __init__(self, processes: ProcessTable, run_of: Callable[[Process], RunKey | None]) -> None:
        self._processes = processes
        self._run_of = run_of
        self._known: dict[Device, GpuActivity] = {}
        self._since_ns: dict[_HoldingKey, int] = {}
        self._runs: dict[int, RunKey] = {}
        self._looked_ns = 0
        self.run_of_pid: dict[int, RunKey] = {}
        """Runs by pid, of the processes with a context since the previous tick."""
        self.proxy_pids: frozenset[int] = frozenset()
        """Pids of the proxy processes with a context."""

    def collect(
        self, activities: Mapping[Device, GpuActivity], at_ns: int
    ) -> tuple[GpuHolding, ...]:
        """All open holdings, and those that ended since the last tick.

        A context exists from the first activity reading of the device that shows it until the
        first one that does not, or until its process has exited. Runs begin and end right after a
        tick, so a process that changed its run did so then. Contexts in the first reading of a
        device existed before: its energy may have been read slightly earlier.
        """
        runs: dict[int, RunKey] = {}
        here: dict[_HoldingKey, int] = {}
        left: dict[_HoldingKey, int] = {}
        proxy_pids: set[int] = set()
        self.run_of_pid = {}
        for device, newest in activities.items():
            before = self._known.get(device)
            reading = self._known[device] = before if before is not None and newest.why else newest
            first_seen_ns = self._first_seen_ns(before, reading)
            for gpu_process in reading.gpu_processes:
                was = self._runs.get(gpu_process.pid)
                process = self._alive(gpu_process, reading.at_ns)
                run = self._run_of(process) if process is not None else was
                is_proxy = gpu_process.is_proxy or self._is_server(process)
                if is_proxy:
                    proxy_pids.add(gpu_process.pid)
                if run is not None:
                    runs[gpu_process.pid] = run
                owner = run or was
                if owner is not None:
                    self.run_of_pid[gpu_process.pid] = owner
                if was is not None and (process is None or was != run):
                    ended_ns = at_ns if process is None else self._looked_ns
                    for place in _holding_keys(device, was, gpu_process.partition):
                        left[place] = ended_ns
                if run is not None and process is not None:
                    place = _HoldingKey(device, run, gpu_process.partition, is_proxy)
                    here.setdefault(place, self._since_ns.get(place, first_seen_ns))
        ended = [
            _holding(place, since_ns, max(since_ns, left.get(place, self._unseen_ns(place, at_ns))))
            for place, since_ns in self._since_ns.items()
            if place not in here
        ]
        self._runs, self._since_ns, self._looked_ns = runs, here, at_ns
        self.proxy_pids = frozenset(proxy_pids)
        return (*ended, *(_holding(place, since_ns, None) for place, since_ns in here.items()))

    def _first_seen_ns(self, before: GpuActivity | None, reading: GpuActivity) -> int:
        """Start time of a context that this reading is the first to show."""
        if before is None:
            return min(reading.at_ns, self._looked_ns or reading.at_ns)
        return reading.at_ns if reading.at_ns != before.at_ns else self._looked_ns

    def _alive(self, gpu_process: GpuProcess, listed_ns: int) -> Process | None:
        """The process that the driver listed; None for a later process with its pid."""
        process = self._processes.find(gpu_process.pid)
        if process is None or self._processes.age_seconds(process, listed_ns) < 0:
            return None
        return process

    def _is_server(self, process: Process | None) -> bool:
        """Whether it is an MPS server, by its name: not every driver lists the clients."""
        if process is None:
            return False
        if process.is_proxy is None:
            process.is_proxy = self._processes.name(process) == MPS_SERVER
        return process.is_proxy

    def _unseen_ns(self, place: _HoldingKey, at_ns: int) -> int:
        reading = self._known.get(place.device)
        return reading.at_ns if reading is not None else at_ns


def _holding(place: _HoldingKey, since_ns: int, until_ns: int | None) -> GpuHolding:
    held = GpuHolding(place.device, place.run, place.partition, is_proxy=place.is_proxy)
    return held._replace(since_ns=since_ns, until_ns=until_ns)


def _holding_keys(device: Device, run: RunKey, partition: str) -> tuple[_HoldingKey, _HoldingKey]:
    """The possible keys of a process of a run, as proxy or not."""
    return _HoldingKey(device, run, partition, False), _HoldingKey(device, run, partition, True)


REPLICA_SEPARATOR = "::"
"""Between a device id and its replica number, in NVIDIA's device plugin."""
REPLICA_SUFFIX = re.compile(r"(?:/vgpu|-slice-)\d+$")
"""Replica number, in the device plugins of GKE and of AMD."""
INTEL_REPLICA = re.compile(r"(card\d+)-\d+")
"""Device id of Intel's device plugin: card and replica number."""
LEGACY_MIG_ID = re.compile(r"MIG-(GPU-[^/]+/\d+/\d+)")
"""MIG device id of drivers before R470: the GPU's UUID, GPU instance, compute instance."""
UUID_PREFIXES = ("GPU-", "MIG-")
"""Of UUIDs in NVIDIA's driver."""
HEX = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
UUID = re.compile(f"(?:GPU|MIG)-(?i:{HEX})(?![0-9a-fA-F])")


def resolve_gpu_id(device_id: str, names: Mapping[str, str], vendor: str = "") -> str:
    """Resolve a device id to the id of a GPU or of a partition; "" if it names none.

    `names` maps other names to ids, see `gpu_aliases`. Supported are these names, indices of the
    GPUs of `vendor` (`0`), `MIG-GPU-.../gi/ci`, and every id that contains exactly one UUID, with
    any prefix or suffix. Replica numbers (`::0`, `/vgpu0`, `-slice-0`, `card0-0`) are ignored.
    """
    base = REPLICA_SUFFIX.sub("", device_id.partition(REPLICA_SEPARATOR)[0])
    if replica := INTEL_REPLICA.fullmatch(base):
        base = replica[1]
    for name in (_index_name(vendor, base), base):
        if name in names:
            return names[name]
    if old := LEGACY_MIG_ID.match(base):
        return names.get(old[1], "")
    found = {uuid for uuid in set(names.values()) if _contains(base.lower(), uuid)}
    found = {uuid for uuid in found if not any(uuid != one and uuid in one for one in found)}
    found = found or set(UUID.findall(base))
    if not found and base.startswith(UUID_PREFIXES) and "/" not in base:
        return base
    return found.pop() if len(found) == 1 else ""


def contains_gpu_uuid(device_id: str) -> bool:
    """Whether an id contains a UUID of a GPU or MIG instance."""
    return UUID.search(device_id) is not None


def gpu_aliases(
    infos: Iterable[DeviceInfo], activities: Mapping[Device, GpuActivity]
) -> dict[str, str]:
    """Map all names of GPUs and their partitions to their ids.

    The names are the id, the index assigned by the driver (`0`), and the aliases that the driver
    reports (`nvidia0`, `nvidia0/gi1`, `0000:03:00.0`). Several partitions with a name resolve to
    the first. An index without a vendor is a name only if all GPUs are of one vendor.
    """
    names = {}
    gpus = [info for info in infos if info.device.kind is DeviceKind.GPU]
    is_mixed = len({info.vendor for info in gpus}) > 1
    for info in gpus:
        gpu = info.device.id
        names[gpu] = gpu
        if info.ordinal:
            names[_index_name(info.vendor, info.ordinal)] = gpu
            if not is_mixed:
                names[info.ordinal] = gpu
        names.update(dict.fromkeys(info.aliases, gpu))
        reading = activities.get(info.device)
        for part in reading.partitions if reading is not None else ():
            names[part.id] = part.id
            for alias in part.aliases:
                names.setdefault(alias, part.id)
    return names


def _index_name(vendor: str, index: str) -> str:
    return f"{vendor}/{index}"


def _contains(text: str, uuid: str) -> bool:
    """Whether a lower-case text contains a UUID that is not part of a longer one."""
    if uuid[4:].lower() not in text:  # without a regular expression, as there may be thousands
        return False
    is_uuid = UUID.fullmatch(uuid) is not None
    core, edge = (uuid[4:], "[0-9a-f]") if is_uuid else (uuid, "[0-9a-z]")
    return re.search(f"(?<!{edge}){re.escape(core.lower())}(?!{edge})", text) is not None
