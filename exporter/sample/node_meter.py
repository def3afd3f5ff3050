"""The meter of the whole node, and the device `rest`: the node minus its other devices."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from exporter import units
from exporter.model.readings import (
    PART_KINDS,
    CounterState,
    Device,
    DeviceCollector,
    DeviceInfo,
    DeviceKind,
    Interval,
    Method,
)
from exporter.model.snapshot import DeviceState, NodeState
from exporter.model.workload import CollectorState
from exporter.sample.energy_counters import EnergyCounters
from exporter.sample.rest import PartEnergy, RestState, add_parts, settle

NODE = Device(DeviceKind.NODE, "node")
REST = Device(DeviceKind.REST, "rest")
CAP_WATTS = 50_000.0
"""Bound of plausible power of one node: twice that of the largest servers."""
SHORT_NS = 600 * units.NANOSECONDS_PER_SECOND
"""Time of a debt after which the meter and the devices are said to disagree."""
SHORT = (
    "the devices have used more than the meter of the node for {minutes:.0f} minutes, so there is "
    "no rest; if the meter does not include the GPUs, set sample.node_includes_gpus to false"
)


class NodeSettings(NamedTuple):
    """What a meter of the node measures."""

    lag_seconds: float = 0.0
    """Time by which its values are late."""
    includes_gpus: bool = True


def node_info(source: str, model: str = "", method: Method = Method.INTEGRATED) -> DeviceInfo:
    """Return the description of the node as the device of a meter."""
    return DeviceInfo(NODE, model, "", source, CAP_WATTS, method)


class NodeMeter:
    """Reads the meter of the node, and books what it measures beyond the devices as `rest`.

    `collector` reads NODE and no other device. Wraps, resets, glitches and gaps of the meter are
    those of any counter. `states` are those of a previous process: with them the sums continue,
    also after a crash, since the journal has them with the totals of the same tick.
    """

    def __init__(
        self,
        collector: DeviceCollector,
        settings: NodeSettings,
        states: Iterable[CounterState],
        boot_id: str,
    ) -> None:
        self._collector = collector
        self._lag_ns = round(settings.lag_seconds * units.NANOSECONDS_PER_SECOND)
        self._kinds = set(PART_KINDS)
        if not settings.includes_gpus:
            self._kinds.remove(DeviceKind.GPU)
        self._boot_id = boot_id
        by_device = {state.device: state for state in states}
        node, rest = by_device.get(NODE), by_device.get(REST)
        self._counters = EnergyCounters(() if node is None else (node,))
        self._rest = None
        if node is not None and rest is not None and rest.epoch == boot_id:
            self._rest = _restored(rest)
        self._info: DeviceInfo | None = None
        self._booked_ns = 0
        self._error = ""
        self._energy_uj: Mapping[Method, int] = {}
        """Replaced, never mutated, because published states share it."""

    def read(self, parts: Sequence[Interval]) -> tuple[list[Interval], CollectorState]:
        """Read the meter; return the intervals of the rest and the state of the collector.

        `parts` are the intervals of the devices in this tick.
        """
        observation = self._collector.read()
        if self._rest is None:
            now_ns = observation.at_ns
            self._rest = RestState(now_ns, begin_ns=now_ns)
        self._rest = add_parts(
            self._rest,
            [
                PartEnergy(part.t0_ns, part.t1_ns, part.energy_uj)
                for part in parts
                if part.device.kind in self._kinds
            ],
        )
        booked = []
        for interval in self._counters.advance(observation):
            energy_uj = self._energy_uj.get(interval.method, 0) + interval.energy_uj
            self._energy_uj = {**self._energy_uj, interval.method: energy_uj}
            self._rest, rest_uj = settle(self._rest, interval, self._lag_ns)
            if rest_uj is not None:
                booked.append(interval._replace(device=REST, energy_uj=rest_uj))
                self._booked_ns = interval.t1_ns
        (info,) = self._counters.infos()
        self._info = info._replace(device=REST, model="", vendor="")
        (state,) = self._counters.states(observation.at_ns, {})
        self._error = observation.error or state.why or self._shortage(observation.at_ns)
        collector = CollectorState(
            self._collector.name, not self._error, observation.cost_seconds, self._error
        )
        return booked, collector

    def state(self) -> NodeState | None:
        """Return the energy so far; None if counting has not begun."""
        if not self._energy_uj:
            return None
        return NodeState(self._collector.name, self._energy_uj)

    def infos(self) -> tuple[DeviceInfo, ...]:
        """Return the description of the rest, once counting has begun."""
        return (self._info,) if self._info is not None and self._booked_ns else ()

    def states(self, at_ns: int, powers: Mapping[Device, float]) -> tuple[DeviceState, ...]:
        """Return the state of the rest at `at_ns`, once counting has begun."""
        return tuple(
            DeviceState(
                info,
                up=not self._error,
                why=self._error,
                age_seconds=max(0.0, units.seconds(at_ns - self._booked_ns)),
                power_watts=powers.get(REST),
                events={},
            )
            for info in self.infos()
        )

    def counter_states(self) -> tuple[CounterState, ...]:
        """Return the states of the meter and of the rest, to be kept across restarts."""
        states = self._counters.counter_states()
        if not states or self._rest is None:
            return ()
        return (*states, _stored(self._rest, self._boot_id))

    def _shortage(self, at_ns: int) -> str:
        assert self._rest is not None
        since_ns = self._rest.short_since_ns
        if not since_ns or at_ns - since_ns < SHORT_NS:
            return ""
        return SHORT.format(minutes=units.seconds(at_ns - since_ns) / units.SECONDS_PER_MINUTE)


def _stored(rest: RestState, boot_id: str) -> CounterState:
    """Return a rest as the counter state that ledger and journal store.

    The pending energy of the devices becomes one amount until its last time.
    """
    return CounterState(
        device=REST,
        raw_uj=0,
        at_ns=rest.settled_ns,
        epoch=boot_id,
        provisional_uj=sum(part.energy_uj for part in rest.pending),
        debt_uj=rest.debt_uj,
        provisional_at_ns=max((part.t1_ns for part in rest.pending), default=0),
    )


def _restored(state: CounterState) -> RestState:
    pending: tuple[PartEnergy, ...] = ()
    if state.provisional_uj:
        pending = (PartEnergy(state.at_ns, state.provisional_at_ns, state.provisional_uj),)
    return RestState(state.at_ns, state.debt_uj, pending)
