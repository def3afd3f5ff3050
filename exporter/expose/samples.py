"""Sample functions of the metric families: from a `SnapshotView` to label values and numbers."""

import sys
from collections.abc import Callable, Iterable
from typing import TypeAlias

from exporter import __version__, units
from exporter.expose.process_collector import ProcessState
from exporter.expose.snapshot_view import SnapshotView, TallyColumns
from exporter.expose.tallies import Tallies, Tally
from exporter.model.forecast import Forecast, ForecastOutcome, forecast
from exporter.model.intensity import Factor
from exporter.model.runs import RunInfo
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


class TallySamples:
    """Sample function: a value of each tally of many runs, computed for all of them at once."""

    def __init__(
        self,
        columns: Callable[[SnapshotView], TallyColumns],
        values: Callable[[Iterable[Tally]], list[float]],
    ) -> None:
        self.columns = columns
        self.values = values

    def __call__(self, view: SnapshotView) -> Samples:
        """Return the samples."""
        labels, tallies = self.columns(view)
        return zip(labels, self.values(tallies), strict=True)


class RunSamples:
    """Sample function that depends only on the descriptions of the runs and on their members."""

    def __init__(self, function: SampleFunction) -> None:
        self._function = function

    def __call__(self, view: SnapshotView) -> Samples:
        """Return the samples."""
        return self._function(view)


def counted_joules(tallies: Iterable[Tally]) -> list[float]:
    """Energy in joules since the counter began, of each tally."""
    return [tally.counted_uj / units.MICROJOULES_PER_JOULE for tally in tallies]


def held_joules(tallies: Iterable[Tally]) -> list[float]:
    """Idle energy of held devices in joules since the counter began, of each tally."""
    return [tally.held_uj / units.MICROJOULES_PER_JOULE for tally in tallies]


def total_joules(tallies: Iterable[Tally]) -> list[float]:
    """Energy in joules since the ledger was created, of each tally."""
    return [tally.total_uj / units.MICROJOULES_PER_JOULE for tally in tallies]


def counted_grams(tallies: Iterable[Tally]) -> list[float]:
    """Emissions in grams since the counter began, of each tally."""
    return [tally.counted_ng / units.NANOGRAMS_PER_GRAM for tally in tallies]


def rounded_watts(tallies: Iterable[Tally]) -> list[float]:
    """Power in watts of each tally; all of them have one."""
    return [round(tally.power_watts, DECIMALS) if tally.power_watts else 0.0 for tally in tallies]


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
    return RunSamples(
        lambda view: [
            (run.label_values, number)
            for run in view.snapshot.runs
            if (number := value(run)) is not None
        ]
    )


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


def run_cumulative_carbon(view: SnapshotView) -> Samples:
    """Emissions in grams of each exported run since its first start, summed over its devices."""
    return [(run.labels, units.grams(run.total_ng)) for run in view.runs.values()]


@RunSamples
def run_members(view: SnapshotView) -> Samples:
    """Pods and containers of each run on this node."""
    for run in view.snapshot.runs:
        for pod, container in view.snapshot.members.get(run.key, ()):
            yield (*run.label_values, pod, container), 1


@RunSamples
def run_units(view: SnapshotView) -> Samples:
    """Units of work of each run since the counter began."""
    for run in view.snapshot.runs:
        for unit in run.units:
            yield (*run.label_values, unit.name), unit.amount - unit.base


def run_forecast(value: Callable[[Forecast], float]) -> SampleFunction:
    """Sample function: a value of each open run that reports its progress."""

    def value_of(run: RunInfo) -> float | None:
        ahead = forecast(run.progress) if run.ended is None else None
        return None if ahead is None else value(ahead)

    return per_run(value_of)


def run_forecast_bounds(value: Callable[[ForecastOutcome], float]) -> SampleFunction:
    """Sample function: low and high of each open run whose forecast has a prediction interval."""

    @RunSamples
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


def run_info(exported_labels: tuple[str, ...]) -> SampleFunction:
    """Sample function: metadata of each run, with the labels in `attribute.exported_labels`."""

    @RunSamples
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
