"""What a scheduler gave to runs, beside what their processes are seen to hold."""

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
    """A device, or a part of one, that a run was given whether or not it uses it."""

    run: RunKey
    gpu: str
    """UUID of a device or of a MIG instance."""
    units: int = 1
    """Replicas of it, where it is shared."""
    units_of: int = 1
    """Replicas that there are; 1: the run has it alone."""
    since_ns: int = 0
    """CLOCK_BOOTTIME."""
    slices: int = 0
    """Slices of each of `units` MIG instances of the GPU whose UUIDs are not known; 0: `gpu` is
    what was given."""
    slices_of: int = 0
    """All slices of the GPU, as far as that is known."""


class GpuGrants:
    """Puts grants in the place of what processes hold: what is idle is held as well.

    A run inside the one that has the grant holds it as long as it has a process there. `is_in` says
    whether the first run is the second, or inside it.
    """

    def __init__(self, is_within: Callable[[RunKey, RunKey], bool]) -> None:
        self._is_in = is_within
        self._free_ns: dict[tuple[str, RunKey], int] = {}
        """Since when nothing inside a run uses what it was given."""
        self._before: tuple[GpuHolding, ...] = ()
        """What was held at the last look, and on."""

    def merge(
        self,
        used: Sequence[GpuHolding],
        grants: Iterable[GpuGrant],
        occupancies: Mapping[Device, GpuActivity],
        at_ns: int,
    ) -> tuple[GpuHolding, ...]:
        """All that is held now, and what was let go of since the last look.

        `used` is what processes hold.
        """
        left = list(used)
        held = []
        known = set()
        for grant in resolve_mig_grants(grants, occupancies):
            known.add((grant.gpu, grant.run))
            device, partition = locate_gpu(grant.gpu, occupancies)
            inside = [
                holding
                for holding in left
                if holding.device == device
                and holding.partition in ("", partition)
                and self._is_in(holding.run, grant.run)
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
        """What was held before and is not any more: until somebody else got it, else until now."""
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
        """The grant as it is held: by the runs inside, else by the run that has it."""
        inner = [row for row in inside if row.run != grant.run and not row.is_proxy]
        held = [
            given._replace(run=holding.run, since_ns=holding.since_ns, until_ns=holding.until_ns)
            for holding in inner
        ]
        # A process of the run that was there before the scheduler was heard holds it as well.
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
    """What tells a holding from every other one."""
    return row.device, row.run, row.partition, row.since_ns


def _without_servers(rows: tuple[GpuHolding, ...]) -> tuple[GpuHolding, ...]:
    """Without what a server holds where somebody else holds something: it works for them."""
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
    grants: Iterable[GpuGrant], occupancies: Mapping[Device, GpuActivity]
) -> list[GpuGrant]:
    """Grants of MIG instances without a UUID, made grants of what they can be.

    They are instances of their size that were given to nobody else. Where there are several, each
    of the runs holds a part of each, so that it pays for as many as it was given; processes tell
    who used which. Until the driver shows any, the run holds as many slices of the GPU.
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
        look = occupancies.get(Device(DeviceKind.GPU, gpu))
        parts = look.partitions if look is not None else ()
        free = [part.id for part in parts if part.slices == slices and part.id not in named]
        of = max(len(free), wanted[gpu, slices])
        if not free:
            before = found.get((run, gpu), GpuGrant(run, gpu, 0, since_ns=since_ns))
            of = max(look.slices if look is not None else 0, slices_of, before.units_of)
            units = before.units + units * slices  # noqa: PLW2901  of the GPU
            since_ns = min(before.since_ns, since_ns)  # noqa: PLW2901
        for each in free or [gpu]:
            found[run, each] = GpuGrant(run, each, units, max(units, of), since_ns)
    return list(found.values())


def locate_gpu(gpu: str, occupancies: Mapping[Device, GpuActivity]) -> tuple[Device, str]:
    """The device of a UUID, and the partition where it is that of a MIG instance."""
    for device, look in occupancies.items():
        if any(part.id == gpu for part in look.partitions):
            return device, gpu
    return Device(DeviceKind.GPU, gpu), ""


MPS_SERVER = b"nvidia-cuda-mps-server"[:15]
"""As far as the kernel keeps a name."""


class _HoldingKey(NamedTuple):
    """What a run can hold once."""

    device: Device
    run: RunKey
    partition: str
    is_proxy: bool


class GpuProcessHoldings:
    """Follows the contexts of processes that are in runs. `run_of` names the run of a process."""

    def __init__(self, processes: ProcessTable, run_of: Callable[[Process], RunKey | None]) -> None:
        self._processes = processes
        self._run_of = run_of
        self._known: dict[Device, GpuActivity] = {}
        self._since_ns: dict[_HoldingKey, int] = {}
        self._runs: dict[int, RunKey] = {}
        self._looked_ns = 0
        self.run_of_pid: dict[int, RunKey] = {}
        """The runs of the processes that had a context since the look before, by pid."""
        self.proxy_pids: frozenset[int] = frozenset()
        """The processes that had a context and work for others, by pid."""

    def collect(
        self, occupancies: Mapping[Device, GpuActivity], at_ns: int
    ) -> tuple[GpuHolding, ...]:
        """What is held now, and what was let go of since the last look.

        A context is there from the look at the device that shows it until the one that does not,
        or until its process is gone. Runs begin and end right after a look, so where a process
        has changed its run, that was then. What the first look at a device shows was there before:
        its energy may have been read a moment earlier.
        """
        runs: dict[int, RunKey] = {}
        here: dict[_HoldingKey, int] = {}
        left: dict[_HoldingKey, int] = {}
        proxy_pids: set[int] = set()
        self.run_of_pid = {}
        for device, newest in occupancies.items():
            before = self._known.get(device)
            look = self._known[device] = before if before is not None and newest.why else newest
            first_seen_ns = self._first_seen_ns(before, look)
            for occupant in look.gpu_processes:
                was = self._runs.get(occupant.pid)
                process = self._alive(occupant, look.at_ns)
                run = self._run_of(process) if process is not None else was
                serves = occupant.is_proxy or self._is_server(process)
                if serves:
                    proxy_pids.add(occupant.pid)
                if run is not None:
                    runs[occupant.pid] = run
                owner = run or was
                if owner is not None:
                    self.run_of_pid[occupant.pid] = owner
                if was is not None and (process is None or was != run):
                    ended_ns = at_ns if process is None else self._looked_ns
                    for place in _holding_keys(device, was, occupant.partition):
                        left[place] = ended_ns
                if run is not None and process is not None:
                    place = _HoldingKey(device, run, occupant.partition, serves)
                    here.setdefault(place, self._since_ns.get(place, first_seen_ns))
        ended = [
            _holding(place, since_ns, max(since_ns, left.get(place, self._unseen_ns(place, at_ns))))
            for place, since_ns in self._since_ns.items()
            if place not in here
        ]
        self._runs, self._since_ns, self._looked_ns = runs, here, at_ns
        self.proxy_pids = frozenset(proxy_pids)
        return (*ended, *(_holding(place, since_ns, None) for place, since_ns in here.items()))

    def _first_seen_ns(self, before: GpuActivity | None, look: GpuActivity) -> int:
        """Since when a context is there that was not known before this look."""
        if before is None:
            return min(look.at_ns, self._looked_ns or look.at_ns)
        return look.at_ns if look.at_ns != before.at_ns else self._looked_ns

    def _alive(self, occupant: GpuProcess, last_idle_ns: int) -> Process | None:
        """The process that was seen; not a later one with its pid."""
        process = self._processes.find(occupant.pid)
        if process is None or self._processes.age_seconds(process, last_idle_ns) < 0:
            return None
        return process

    def _is_server(self, process: Process | None) -> bool:
        """Whether it is an MPS server by its name: not every driver lists the clients."""
        if process is None:
            return False
        if process.is_proxy is None:
            process.is_proxy = self._processes.name(process) == MPS_SERVER
        return process.is_proxy

    def _unseen_ns(self, place: _HoldingKey, at_ns: int) -> int:
        look = self._known.get(place.device)
        return look.at_ns if look is not None else at_ns


def _holding(place: _HoldingKey, since_ns: int, until_ns: int | None) -> GpuHolding:
    held = GpuHolding(place.device, place.run, place.partition, is_proxy=place.is_proxy)
    return held._replace(since_ns=since_ns, until_ns=until_ns)


def _holding_keys(device: Device, run: RunKey, partition: str) -> tuple[_HoldingKey, _HoldingKey]:
    """Where a process of a run may have been, whether it served there or not."""
    return _HoldingKey(device, run, partition, False), _HoldingKey(device, run, partition, True)


REPLICA_SEPARATOR = "::"
"""Between an id and the number of its replica, by NVIDIA's device plugin."""
GKE_REPLICA_SUFFIX = re.compile(r"/vgpu\d+$")
"""Number of a replica, by GKE's device plugin."""
LEGACY_MIG_ID = re.compile(r"MIG-(GPU-[^/]+/\d+/\d+)")
"""A MIG device as drivers before R470 name it: the GPU's UUID, GPU instance, compute instance."""
UUID_PREFIXES = ("GPU-", "MIG-")
"""Of the UUIDs of NVIDIA's driver."""
HEX = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
UUID = re.compile(f"(?:GPU|MIG)-(?i:{HEX})(?![0-9a-fA-F])")


def resolve_gpu_id(device_id: str, names: Mapping[str, str]) -> str:
    """The UUID of the GPU or MIG instance that a device id names; "" if it names none.

    `names` has UUIDs by other names, see `names_of`. Supported are NVML indices (`0`), GKE's device
    files and MIG instances (`nvidia0`, `nvidia0/gi1`), `MIG-GPU-.../gi/ci`, and every id that
    contains exactly one UUID, whatever a plugin puts before or after it. Replica numbers
    (`::0`, `/vgpu0`) are ignored.
    """
    base = GKE_REPLICA_SUFFIX.sub("", device_id.partition(REPLICA_SEPARATOR)[0])
    if base in names:
        return names[base]
    if old := LEGACY_MIG_ID.match(base):
        return names.get(old[1], "")
    found = {uuid for uuid in set(names.values()) if _contains(base.lower(), uuid)}
    found = {uuid for uuid in found if not any(uuid != one and uuid in one for one in found)}
    found = found or set(UUID.findall(base))
    if not found and base.startswith(UUID_PREFIXES) and "/" not in base:
        return base
    return found.pop() if len(found) == 1 else ""


def contains_gpu_uuid(device_id: str) -> bool:
    """Whether an id contains the UUID of some GPU or MIG instance."""
    return UUID.search(device_id) is not None


def gpu_aliases(
    infos: Iterable[DeviceInfo], occupancies: Mapping[Device, GpuActivity]
) -> dict[str, str]:
    """UUIDs of GPUs and MIG instances by all of their names.

    The names are the UUID, the NVML index (`0`), the device file by its minor number (`nvidia0`),
    `nvidia0/gi1` and `GPU-.../1/0`. A GPU instance of several compute instances is the first of
    them.
    """
    names = {}
    for info in infos:
        uuid = info.device.id
        if info.device.kind is not DeviceKind.GPU:
            continue
        names[uuid] = uuid
        if info.ordinal:
            names[info.ordinal] = uuid
        if info.minor is not None:
            names[f"nvidia{info.minor}"] = uuid
        look = occupancies.get(info.device)
        for part in look.partitions if look is not None else ():
            names[part.id] = part.id
            if part.instances is not None:
                gpu_instance, compute_instance = part.instances
                names[f"{uuid}/{gpu_instance}/{compute_instance}"] = part.id
                if info.minor is not None:
                    names.setdefault(f"nvidia{info.minor}/gi{gpu_instance}", part.id)
    return names


def _contains(text: str, uuid: str) -> bool:
    """Whether a UUID is in a text in lower case as a whole, and not as a part of a longer one."""
    if uuid[4:].lower() not in text:  # without a regular expression, as there may be thousands
        return False
    is_uuid = UUID.fullmatch(uuid) is not None
    core, edge = (uuid[4:], "[0-9a-f]") if is_uuid else (uuid, "[0-9a-z]")
    return re.search(f"(?<!{edge}){re.escape(core.lower())}(?!{edge})", text) is not None
