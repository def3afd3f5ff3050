"""Compute users of AMD GPUs, by the compute driver KFD in `/sys/devices/virtual/kfd/kfd`.

Programs of ROCm use `/dev/kfd`, so the DRM subsystem does not count their work. Process ids are
those of the host. Files: `kfd_topology.c` and `kfd_process.c` of Linux.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from exporter.sample.kernel_files import parse_number, read_text
from exporter.worker import Worker

INIT_PID_NAMESPACE = "pid:[4026531836]"
"""Namespace of the host's processes: PROC_PID_INIT_INO of Linux."""
SAMPLE_SECONDS = 0.1
MAX_SWEEPS = 1000


class KfdNode(NamedTuple):
    """A GPU, or a partition of one, in KFD's topology."""

    gpu_id: int
    address: str
    """PCI address of the card; partitions of a card have the same."""
    partition: int
    """Number of the partition within the card."""
    render_minor: int
    compute_units: int


def kfd_path(sysfs: str, *parts: str) -> str:
    """Return a path in the directory of KFD."""
    return os.path.join(sysfs, "devices", "virtual", "kfd", "kfd", *parts)


class KfdTopology(NamedTuple):
    """All GPU nodes in the order of KFD, in which ROCm numbers GPUs; empty without KFD."""

    nodes: tuple[KfdNode, ...] = ()
    is_denied: bool = False
    """Whether a node may not be read: the kernel requires access to the GPU's device file by the
    device cgroup, which a container may not have."""

    def of(self, address: str) -> list[KfdNode]:
        """Return the nodes of a card, by number of the partition."""
        return sorted(
            (node for node in self.nodes if node.address == address),
            key=lambda node: node.partition,
        )


def read_topology(sysfs: str) -> KfdTopology:
    """Read the topology of KFD."""
    path = kfd_path(sysfs, "topology", "nodes")
    numbers = sorted(int(name) for name in _listed(path) if name.isdigit())
    nodes, is_denied = [], False
    for number in numbers:
        gpu_id = parse_number(read_text(os.path.join(path, str(number)), "gpu_id"))
        properties = read_text(os.path.join(path, str(number)), "properties")
        if gpu_id is None or not properties:
            is_denied = True
        elif gpu_id:  # else it has processors only
            nodes.append(_node(gpu_id, dict(_properties(properties))))
    return KfdTopology(tuple(nodes), is_denied)


def _node(gpu_id: int, values: Mapping[str, int]) -> KfdNode:
    location, domain = values.get("location_id", 0), values.get("domain", 0)
    # The number of a partition is in bits 28 to 31, or in place of the PCI function, which is 0.
    partition = location >> 28 & 0xF or location & 7
    return KfdNode(
        gpu_id,
        f"{domain:04x}:{location >> 8 & 0xFF:02x}:{location >> 3 & 0x1F:02x}.0",
        partition,
        values.get("drm_render_minor", 0),
        values.get("simd_count", 0) // max(1, values.get("simd_per_cu", 1)),
    )


def _properties(text: str) -> Iterator[tuple[str, int]]:
    for line in text.splitlines():
        name, _, text = line.partition(" ")
        value = parse_number(text)
        if value is not None:
            yield name, value


def read_queues(sysfs: str) -> Mapping[int, frozenset[int]]:
    """Return the ids of processes with a queue, by id of the GPU.

    A process that has only opened KFD has a directory, but no queue.
    """
    found: dict[int, set[int]] = {}
    path = kfd_path(sysfs, "proc")
    for pid in _listed(path):
        if not pid.isdigit():
            continue
        for context in _contexts(os.path.join(path, pid)):
            for queue in _listed(os.path.join(context, "queues")):
                gpu_id = parse_number(read_text(os.path.join(context, "queues", queue), "gpuid"))
                if gpu_id is not None:
                    found.setdefault(gpu_id, set()).add(int(pid))
    return {gpu_id: frozenset(pids) for gpu_id, pids in found.items()}


def read_occupancy(sysfs: str, pid: int, gpu_id: int) -> int | None:
    """Return how many compute units waves of a process occupy now; None: not reported."""
    contexts = _contexts(kfd_path(sysfs, "proc", str(pid)))
    texts = (read_text(os.path.join(each, f"stats_{gpu_id}"), "cu_occupancy") for each in contexts)
    counts = [units for text in texts if (units := parse_number(text)) is not None]
    return sum(counts) if counts else None


def _contexts(path: str) -> Iterator[str]:
    """Yield the directories of a process: its own, and those of further contexts inside it.

    In newer kernels a program may have several (`kfd_create_process_sysfs`).
    """
    yield path
    for name in _listed(path):
        if name.startswith("context_"):
            yield os.path.join(path, name)


def _listed(path: str) -> Iterable[str]:
    try:
        return os.listdir(path)
    except OSError:  # KFD is not loaded, or the process has exited
        return ()


def shares_host_pids(procfs: str) -> bool:
    """Whether `procfs` has the process ids of the host; True if that is not known.

    It has others only if it is the container's own, which has a namespace of its own.
    """
    try:
        namespace = os.readlink(os.path.join(procfs, "self", "ns", "pid"))
        own = os.readlink(os.path.join(procfs, "self"))
    except OSError:
        return True
    return namespace == INIT_PID_NAMESPACE or own != str(os.getpid())


class KfdUser(NamedTuple):
    """A process on a GPU node."""

    pid: int
    gpu_id: int


class OccupancySampler:
    """Averages how many compute units processes occupy, which KFD reports for one moment only.

    `worker` makes the thread, which exists while there is a process to watch.
    """

    def __init__(
        self, sysfs: str, worker: Callable[[str, Callable[[], None], float], Worker] = Worker
    ) -> None:
        self._sysfs = sysfs
        self._make_worker = worker
        self._worker: Worker | None = None
        self._watched: frozenset[KfdUser] = frozenset()
        self._sweeps: deque[dict[KfdUser, int]] = deque(maxlen=MAX_SWEEPS)

    def watch(self, users: Iterable[KfdUser]) -> None:
        """Replace the processes to be sampled; starts or stops the thread."""
        self._watched = frozenset(users)
        if self._watched and self._worker is None:
            self._worker = self._make_worker("cu_occupancy", self._sample, SAMPLE_SECONDS)
            self._worker.start()
        elif not self._watched:
            self.stop()

    def means(self) -> Mapping[KfdUser, float]:
        """Return the mean number of units since the last call; without those not reported."""
        sums: dict[KfdUser, list[int]] = {}
        while self._sweeps:
            for user, units in self._sweeps.popleft().items():
                sums.setdefault(user, []).append(units)
        return {user: sum(units) / len(units) for user, units in sums.items()}

    def stop(self) -> None:
        """End the thread, without waiting for it."""
        if self._worker is not None:
            self._worker.stop(0.0)
            self._worker = None

    def _sample(self) -> None:
        readings = ((user, read_occupancy(self._sysfs, *user)) for user in self._watched)
        self._sweeps.append({user: units for user, units in readings if units is not None})
