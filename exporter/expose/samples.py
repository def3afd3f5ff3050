"""Sample functions of the metric families: from a `SnapshotView` to label values and numbers."""

import sys
from collections.abc import Callable, Iterable
from typing import TypeAlias

from exporter import __version__, units
from exporter.expose.process_collector import ProcessState
from exporter.expose.snapshot_view import SnapshotView, Tallies, Tally
from exporter.model.forecast import Forecast, ForecastOutcome, forecast
from exporter.model.intensity import Factor
from exporter.model.runs import RUN_LABELS, RunInfo
from exporter.model.snapshot import DaemonHealth, DeviceState, IntensityState
from exporter.model.workload import SETTINGS

Sample: TypeAlias = tuple[tuple[str, ...], float]
Samples: TypeAlias = Iterable[Sample]
SampleFunction: TypeAlias = Callable[[SnapshotView], Samples]

DECIMALS = 3
"""Decimal places of watts, ages and times: finer than any meter, and keeps the page short."""


def of_tally(
    tallies: Callable[[SnapshotView], Tallies], value: Callable[[Tally], float]
) -> SampleFunction:
    """Sample function: a value of each tally."""
    return lambda view: [(labels, value(tally)) for labels, tally in tallies(view).items()]


def power_watts(tallies: Callable[[SnapshotView], Tallies]) -> SampleFunction:
    """Sample function: power in watts; no sample where it is unknown."""
    return lambda view: [
        (labels, round(tally.power_watts, DECIMALS))
        for labels, tally in tallies(view).items()
        if tally.power_watts is not None
    ]


def per_device(value: Callable[[DeviceState], float | None]) -> SampleFunction:
    """Sample function: a value of each device that has one."""
    return lambda view: [
        (state.info.device, number)
        for state in view.snapshot.devices
        if (number := value(state)) is not None
    ]


def per_run(value: Callable[[RunInfo], float | None]) -> SampleFunction:
    """Sample function: a value of each run that has one."""
    return lambda view: [
        (run.label_values, number)
        for run in view.snapshot.runs
        if (number := value(run)) is not None
    ]


def per_factor(value: Callable[[IntensityState, Factor], float | None]) -> SampleFunction:
    """Sample function: a value of each carbon intensity in effect that has one."""
    return lambda view: [
        (_factor_labels(state.factor), number)
        for state in _grid_states(view)
        if state.factor is not None and (number := value(state, state.factor)) is not None
    ]


def _grid_states(view: SnapshotView) -> list[IntensityState]:
    """Return the main intensity and, if configured, the second one."""
    first = view.snapshot.grid
    return [first] if first.second is None else [first, first.second]


def _factor_labels(factor: Factor) -> tuple[str, str, str, str]:
    return factor.zone, factor.signal, factor.basis, factor.accounting


def grid_requests(view: SnapshotView) -> Samples:
    """Requests to each live intensity source, by outcome."""
    for feed in view.snapshot.grid.feeds:
        for outcome, count in feed.requests:
            yield (feed.name, outcome), count


def health_value(value: Callable[[DaemonHealth], float]) -> SampleFunction:
    """Sample function: one value of the daemon's health."""
    return lambda view: (((), value(view.snapshot.health)),)


def process_value(value: Callable[[ProcessState], float]) -> SampleFunction:
    """Sample function: the daemon's own resource usage; no sample if procfs cannot be read."""
    return lambda view: () if view.process is None else (((), value(view.process)),)


def device_info(view: SnapshotView) -> Samples:
    """Metadata of each device."""
    for state in view.snapshot.devices:
        info = state.info
        metadata = (info.model, info.vendor, info.source, info.ordinal, info.pci_bus_id)
        yield (*info.device, *metadata), 1


def node_energy(view: SnapshotView) -> Samples:
    """Energy of the node by method and source; no sample without a meter."""
    state = view.snapshot.node_state
    if state is not None:
        for method, energy_uj in state.energy_uj.items():
            yield (method, state.source), units.joules(energy_uj)


def device_events(view: SnapshotView) -> Samples:
    """Events of each device's energy counter, including those that have not happened yet, at 0."""
    for state in view.snapshot.devices:
        for event, count in state.events.items():
            yield (*state.info.device, event), count


def run_held_idle(view: SnapshotView) -> Samples:
    """Idle energy of the devices held by each run, by device kind."""
    held: dict[tuple[str, ...], int] = {}
    for labels, tally in view.runs.items():
        kind_labels = labels[: len(RUN_LABELS) + 1]
        held[kind_labels] = held.get(kind_labels, 0) + tally.held_uj
    return [(labels, units.joules(held_uj)) for labels, held_uj in held.items()]


def run_members(view: SnapshotView) -> Samples:
    """Pods and containers of each run on this node."""
    for run in view.snapshot.runs:
        for pod, container in view.snapshot.members.get(run.key, ()):
            yield (*run.label_values, pod, container), 1


def run_units(view: SnapshotView) -> Samples:
    """Units of work of each run since the counter began."""
    for run in view.snapshot.runs:
        for unit in run.units:
            yield (*run.label_values, unit.name), unit.amount - unit.base


def run_forecast(value: Callable[[Forecast], float]) -> SampleFunction:
    """Sample function: a value of each open run that reports its progress."""
    return lambda view: [
        (run.label_values, value(ahead))
        for run in view.snapshot.runs
        if run.ended is None and (ahead := forecast(run.progress)) is not None
    ]


def run_forecast_bounds(value: Callable[[ForecastOutcome], float]) -> SampleFunction:
    """Sample function: low and high of each open run whose forecast has a prediction interval."""

    def rows(view: SnapshotView) -> Samples:
        for run in view.snapshot.runs:
            ahead = forecast(run.progress) if run.ended is None else None
            if ahead is not None and ahead.low is not None and ahead.high is not None:
                yield (*run.label_values, "low"), value(ahead.low)
                yield (*run.label_values, "high"), value(ahead.high)

    return rows


def owner_sums(exported_labels: tuple[str, ...], value: Callable[[Tally], float]) -> SampleFunction:
    """Sample function: a value of each owner."""

    def rows(view: SnapshotView) -> Samples:
        for owner, tally in view.owners.items():
            given = dict(owner.labels) if exported_labels else {}
            labels = [given.get(name, "") for name in exported_labels]
            yield (owner.user, owner.namespace, *labels), value(tally)

    return rows


def run_cumulative_carbon(view: SnapshotView) -> Samples:
    """Emissions in grams of each shown run since its first start, summed over its devices."""
    sums = {run.label_values: 0 for run in view.snapshot.runs}
    for (run_id, job_id, _, _), tally in view.runs.items():
        sums[run_id, job_id] += tally.total_ng
    return [(labels, units.grams(total_ng)) for labels, total_ng in sums.items()]


def run_info(exported_labels: tuple[str, ...]) -> SampleFunction:
    """Sample function: metadata of each run, with the labels in `attribute.exported_labels`."""

    def rows(view: SnapshotView) -> Samples:
        for run in view.snapshot.runs:
            if not run.is_user_known:
                continue  # the series would be replaced by another one once the name is known
            identity = (*run.label_values, run.name, run.user, run.namespace)
            given = dict(run.labels) if exported_labels else {}
            labels = [given.get(name, "") for name in exported_labels]
            yield (*identity, run.origin, run.account, *labels), 1

    return rows


def grid_info(view: SnapshotView) -> Samples:
    """Source of each carbon intensity in effect."""
    for state in _grid_states(view):
        if state.factor is not None:
            estimated = "true" if state.factor.estimated else "false"
            yield (*_factor_labels(state.factor), state.factor.source, estimated), 1


def pue(view: SnapshotView) -> Samples:
    """Power usage effectiveness: facility energy divided by machine energy."""
    factor = view.snapshot.grid.factor
    if factor is not None:
        yield (), factor.pue


def collector_success(view: SnapshotView) -> Samples:
    """Whether the last attempt of each collector succeeded."""
    return [((state.name,), int(state.ok)) for state in view.snapshot.collectors]


def config_reload(view: SnapshotView) -> Samples:
    """Whether the last reload succeeded. Only a failed reload adds a state named `SETTINGS`."""
    return [((), int(all(s.ok for s in view.snapshot.collectors if s.name == SETTINGS)))]


def collector_duration(view: SnapshotView) -> Samples:
    """Duration of the last attempt of each collector, in seconds."""
    return [((state.name,), state.seconds) for state in view.snapshot.collectors]


def driver_calls(view: SnapshotView) -> Samples:
    """Number of calls of each driver function."""
    return [((call,), stats.calls) for call, stats in view.snapshot.driver_calls.items()]


def driver_seconds(view: SnapshotView) -> Samples:
    """Time spent in each driver function, in seconds."""
    return [((call,), stats.seconds) for call, stats in view.snapshot.driver_calls.items()]


def build_info(_: SnapshotView) -> Samples:
    """Versions of the exporter and of Python."""
    python = ".".join(map(str, sys.version_info[:3]))
    return (((__version__, python), 1),)
