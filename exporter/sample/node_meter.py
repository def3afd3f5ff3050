"""Energy of the whole node, from the one meter that covers it."""

from collections.abc import Mapping
from types import MappingProxyType

from exporter.model.readings import Device, DeviceCollector, DeviceInfo, DeviceKind, Method
from exporter.model.snapshot import NodeState
from exporter.model.workload import CollectorState
from exporter.sample.energy_counters import EnergyCounters

NODE = Device(DeviceKind.NODE, "node")
CAP_WATTS = 50_000.0
"""Bound of plausible power of one node: twice that of the largest servers."""


def node_info(source: str, model: str = "", method: Method = Method.INTEGRATED) -> DeviceInfo:
    """Return the description of the node as the device of a meter."""
    return DeviceInfo(NODE, model, "", source, CAP_WATTS, method)


class NodeMeter:
    """Adds up the energy of the node since the exporter started.

    `collector` reads NODE and no other device. Wraps, resets, glitches and gaps of the meter are
    those of any counter. The sum begins at zero with each start of the exporter and does not
    include the energy used before it.
    """

    def __init__(self, collector: DeviceCollector) -> None:
        self._collector = collector
        self._counters = EnergyCounters(())
        self._energy_uj: Mapping[Method, int] = MappingProxyType({})
        """Replaced, never mutated, because published states share it."""

    def read(self) -> CollectorState:
        """Read the meter; return the state of its collector."""
        observation = self._collector.read()
        for interval in self._counters.advance(observation):
            energy_uj = self._energy_uj.get(interval.method, 0) + interval.energy_uj
            self._energy_uj = MappingProxyType({**self._energy_uj, interval.method: energy_uj})
        (state,) = self._counters.states(observation.at_ns, {})
        why = observation.error or state.why
        return CollectorState(self._collector.name, not why, observation.cost_seconds, why)

    def state(self) -> NodeState | None:
        """Return the energy so far; None if counting has not begun."""
        if not self._energy_uj:
            return None
        return NodeState(self._collector.name, self._energy_uj)
