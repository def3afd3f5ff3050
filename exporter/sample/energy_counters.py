"""Energy counters of all devices: counter states, energy intervals and device states."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from exporter import units
from exporter.model.readings import (
    GPU_ACTIVITY_MAX_AGE_NS,
    CounterEvent,
    CounterState,
    Device,
    DeviceInfo,
    GpuActivity,
    Interval,
    Method,
    Observation,
    Reading,
)
from exporter.model.snapshot import DeviceState
from exporter.sample.counter_arithmetic import advance_counter, without_implausible

log = logging.getLogger(__name__)

SUSPECT_READINGS = 3
"""Consecutive suspect readings after which a device is reported as not up."""
SUSPECT_ERROR = (
    "the energy counter decreases, or increases faster than {watts:.0f} W, which is implausible; "
    "no energy is counted until two readings agree"
)


@dataclass(slots=True)
class _DeviceStatus:
    info: DeviceInfo
    events: Mapping[CounterEvent, int]
    """Replaced, never mutated, because published states share it."""
    good_ns: int
    """Time of the last accepted reading, or of the discovery of the device if there was none."""
    up: bool = False
    why: str = ""
    suspects: int = 0
    """Consecutive suspect readings without a power reading as a replacement."""


class EnergyCounters:
    """Computes energy intervals from observations, separately for each device."""

    def __init__(self, counter_states: Iterable[CounterState]) -> None:
        """Continue from the counter states of a previous process."""
        self._states = {state.device: state._replace(restored=True) for state in counter_states}
        self._statuses: dict[Device, _DeviceStatus] = {}
        self._gpu_activity: dict[Device, GpuActivity] = {}

    def advance(self, observation: Observation) -> tuple[Interval, ...]:
        """Apply an observation; return the energy intervals that it completes."""
        self._learn_devices(observation)
        if observation.gpu_activity or self._gpu_activity:
            self._gpu_activity = _recent_activity(
                {**self._gpu_activity, **{each.device: each for each in observation.gpu_activity}},
                observation.at_ns,
            )
        intervals = []
        for reading in observation.readings:
            interval = self._apply(self._statuses[reading.device], reading)
            if interval is not None:
                intervals.append(interval)
        return tuple(intervals)

    def counter_states(self) -> tuple[CounterState, ...]:
        """Return all counter states, including those of devices not seen recently."""
        return tuple(self._states.values())

    def infos(self) -> tuple[DeviceInfo, ...]:
        """Return all devices seen by this process."""
        return tuple(status.info for status in self._statuses.values())

    def counted_infos(self) -> tuple[DeviceInfo, ...]:
        """Return all devices for which counting has begun."""
        return tuple(
            status.info for device, status in self._statuses.items() if device in self._states
        )

    def gpu_activity(self) -> Mapping[Device, GpuActivity]:
        """Return the last activity of each GPU, unless it has expired."""
        return self._gpu_activity

    def states(self, at_ns: int, powers: Mapping[Device, float]) -> tuple[DeviceState, ...]:
        """Return the state of every device at `at_ns`; `powers` are in watts."""
        return tuple(
            DeviceState(
                info=status.info,
                up=status.up,
                why=status.why,
                age_seconds=max(0.0, units.seconds(at_ns - status.good_ns)),
                power_watts=powers.get(device),
                events=status.events,
                activity=self._gpu_activity.get(device),
                is_counted=device in self._states,
            )
            for device, status in self._statuses.items()
        )

    def _learn_devices(self, observation: Observation) -> None:
        for info in observation.infos:
            status = self._statuses.get(info.device)
            if status is None:
                events = dict.fromkeys(_events_of(info), 0)
                self._statuses[info.device] = _DeviceStatus(info, events, observation.at_ns)
            else:
                status.info = info
        if observation.error:
            for status in self._statuses.values():
                if status.info.source == observation.source:
                    status.up, status.why = False, observation.error

    def _apply(self, status: _DeviceStatus, reading: Reading) -> Interval | None:
        reading = without_implausible(reading, status.info)
        state, interval = advance_counter(self._states.get(reading.device), reading, status.info)
        if state is not None:
            self._states[reading.device] = state
        status.up = reading.counter_uj is not None or reading.power_watts is not None
        status.why = reading.why
        if status.up and state is not None and state.suspect_uj is None:
            status.good_ns = reading.at_ns
            status.suspects = 0
        elif status.up and reading.power_watts is None:
            self._count_suspect(status)
        if interval is not None and interval.event is not None:
            count = status.events.get(interval.event, 0)
            status.events = {**status.events, interval.event: count + 1}
        return interval

    def _count_suspect(self, status: _DeviceStatus) -> None:
        """Count a suspect reading; after SUSPECT_READINGS in a row, report the device as not up."""
        status.suspects += 1
        if status.suspects < SUSPECT_READINGS:
            return
        status.up, status.why = False, SUSPECT_ERROR.format(watts=status.info.power_cap_watts)
        if status.suspects == SUSPECT_READINGS:
            kind, name = status.info.device
            extra = {"device": f"{kind} {name}", "error": status.why}
            log.warning("device not counted", extra=extra)


def _recent_activity(
    activities: dict[Device, GpuActivity], at_ns: int
) -> dict[Device, GpuActivity]:
    return {
        device: activity
        for device, activity in activities.items()
        if at_ns - activity.at_ns <= GPU_ACTIVITY_MAX_AGE_NS
    }


def _events_of(info: DeviceInfo) -> tuple[CounterEvent, ...]:
    """Return the counter events that can occur on a device."""
    if info.method is Method.INTEGRATED:
        return (CounterEvent.GAP,)
    if info.wrap_uj is None:
        return (CounterEvent.RESET, CounterEvent.GLITCH, CounterEvent.GAP)
    return tuple(CounterEvent)
