"""Who is on one card: its processes, how active each is, and its partitions."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from exporter.clock import Clock
from exporter.model.readings import Device, Occupancy, Occupant, Partition
from exporter.sample.sources.nvml.activity import (
    InstanceActivity,
    ProcessActivity,
    ratio,
    retried,
)
from exporter.sample.sources.nvml.capabilities import Capabilities
from exporter.sample.sources.nvml.codes import NOT_SUPPORTED, Reaction
from exporter.sample.sources.nvml.driver import Driver, Failure, usable

PROCESSES = "nvmlDeviceGetComputeRunningProcesses_v3"
CLIENTS = "nvmlDeviceGetMPSComputeRunningProcesses_v3"
UTILIZATION = "nvmlDeviceGetUtilizationRates"


class Instance(NamedTuple):
    """One MIG compute instance, as the layout has it."""

    uuid: str
    gpu_instance: int
    compute_instance: int
    slices: float
    """Its part of the GPU instance's slices."""

    @property
    def numbers(self) -> tuple[int, int]:
        """Of the GPU instance, and of the compute instance in it."""
        return self.gpu_instance, self.compute_instance


class Layout(NamedTuple):
    """How a card is divided. `slices` is 0 where it is not."""

    slices: int = 0
    instances: tuple[Instance, ...] = ()


class Process(NamedTuple):
    """A process in one of the driver's lists."""

    pid: int
    place: tuple[int, int]
    """GPU instance and compute instance; one and the same on an undivided card."""


class Tenants:
    """Looks at the processes of one card."""

    def __init__(self, driver: Driver, clock: Clock, device: Device) -> None:
        self.driver = driver
        self._clock = clock
        self._device = device
        self._can = Capabilities()
        self._processes = ProcessActivity(driver, clock, self._can)
        self._instances = InstanceActivity(driver, self._can)

    def look(self, handle: Any, layout: Layout) -> Occupancy:
        """Who is there now, and what each did since the last look.

        Raises Failure, and that too where the driver does not list processes: that nobody is
        there must be known.
        """
        now_ns = self._clock.boottime_ns()
        running = self._running(handle, now_ns)
        clients = self._clients(handle, now_ns)
        active: dict[int, float] = {}
        coverage = 0.0
        if not layout.slices:
            active, coverage = self._processes.look(handle, now_ns)
        partitions = tuple(self._partitions(handle, layout, now_ns))
        if layout.slices:
            known = [part.active is not None for part in partitions]
            coverage = float(bool(known) and all(known))
        return Occupancy(
            self._device,
            now_ns,
            _occupants(running, clients, layout, active),
            partitions,
            layout.slices,
            coverage,
            self._utilization(handle, now_ns),
        )

    def forget(self) -> None:
        """Ask again for what the card has refused."""
        self._can.forget()

    def let_go(self) -> None:
        """Give back what the driver has lent."""
        self._instances.let_go()

    def _running(self, handle: Any, now_ns: int) -> Sequence[Process]:
        if not self._can.has(PROCESSES, now_ns):
            raise Failure(PROCESSES, NOT_SUPPORTED)
        try:
            with usable(PROCESSES):
                processes = _read(retried(lambda: self.driver.call(PROCESSES, handle)))
        except Failure as failure:
            if failure.reaction is Reaction.EMPTY:
                return ()
            if failure.reaction is Reaction.CAPABILITY:
                self._can.refused(PROCESSES, now_ns)
            raise
        self._can.works(PROCESSES)
        return processes

    def _clients(self, handle: Any, now_ns: int) -> Sequence[Process]:
        """Those of an MPS server, where the driver lists them."""
        with self._can.optional(CLIENTS, now_ns) as is_worth:
            if is_worth:
                return _read(retried(lambda: self.driver.call(CLIENTS, handle)))
        return ()

    def _partitions(self, handle: Any, layout: Layout, now_ns: int) -> Iterator[Partition]:
        numbers = {instance.gpu_instance for instance in layout.instances}
        actives = self._instances.look(handle, numbers, now_ns)
        for instance in layout.instances:
            active = actives[instance.gpu_instance]
            yield Partition(instance.uuid, instance.slices, active, instance.numbers)

    def _utilization(self, handle: Any, now_ns: int) -> float | None:
        with self._can.optional(UTILIZATION, now_ns) as is_worth:
            if is_worth:
                return ratio(self.driver.call(UTILIZATION, handle).gpu)
        return None


def _occupants(
    running: Sequence[Process],
    clients: Sequence[Process],
    layout: Layout,
    active: dict[int, float],
) -> tuple[Occupant, ...]:
    """Every process once.

    Where there are MPS clients, whoever else is on the same partition is their server; the driver
    shows their work as its own.
    """
    uuids = {(each.gpu_instance, each.compute_instance): each.uuid for each in layout.instances}
    served = {process.pid for process in clients}
    serving = {process.place for process in clients}
    return tuple(
        Occupant(
            process.pid,
            uuids.get(process.place, ""),
            active.get(process.pid, 0.0),
            serves=process.place in serving and process.pid not in served,
        )
        for process in {process.pid: process for process in (*running, *clients)}.values()
    )


def _read(processes: Sequence[Any]) -> Sequence[Process]:
    """A list of the driver's."""
    return [Process(each.pid, (each.gpuInstanceId, each.computeInstanceId)) for each in processes]
