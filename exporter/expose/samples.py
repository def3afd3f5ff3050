"""The samples of each metric family: from a `SnapshotView` to label values and numbers."""

import sys
from collections.abc import Callable, Iterable
from typing import TypeAlias

from exporter import __version__, units
from exporter.expose.process_collector import ProcessState
from exporter.expose.snapshot_view import SnapshotView, Tallies, Tally
from exporter.model.forecast import Forecast, ForecastOutcome, forecast
from exporter.model.intensity import Factor
from exporter.model.runs import RunInfo
from exporter.model.snapshot import DaemonHealth, DeviceState, IntensityState
from exporter.model.workload import SETTINGS

Sample: TypeAlias = tuple[tuple[str, ...], float]
Samples: TypeAlias = Iterable[Sample]
SampleFunction: TypeAlias = Callable[[SnapshotView], Samples]

DECIMALS = 3
"""Digits kept of watts, ratios of time and ages: finer than any meter, and a shorter page."""


def counted_energy(tallies: Callable[[SnapshotView], Tallies]) -> SampleFunction:
    """Joules as counted."""
    return lambda view: [
        (labels, units.joules(tally.counted_uj)) for labels, tally in tallies(view).items()
    ]


def counted_carbon(tallies: Callable[[SnapshotView], Tallies]) -> SampleFunction:
    """Grams as counted."""
    return lambda view: [
        (labels, units.grams(tally.counted_ng)) for labels, tally in tallies(view).items()
    ]


def cumulative_energy(tallies: Callable[[SnapshotView], Tallies]) -> SampleFunction:
    """Joules as the ledger knows them."""
    return lambda view: [
        (labels, units.joules(tally.total_uj)) for labels, tally in tallies(view).items()
    ]


def cumulative_carbon(tallies: Callable[[SnapshotView], Tallies]) -> SampleFunction:
    """Grams as the ledger knows them."""
    return lambda view: [
        (labels, units.grams(tally.total_ng)) for labels, tally in tallies(view).items()
    ]


def power_watts(tallies: Callable[[SnapshotView], Tallies]) -> SampleFunction:
    """Watts, where they are known."""
    return lambda view: [
        (labels, round(tally.power_watts, DECIMALS))
        for labels, tally in tallies(view).items()
        if tally.power_watts is not None
    ]


def per_device(value: Callable[[DeviceState], float | None]) -> SampleFunction:
    """One sample per device, where there is a value."""
    return lambda view: [
        (state.info.device, number)
        for state in view.snapshot.devices
        if (number := value(state)) is not None
    ]


def per_run(value: Callable[[RunInfo], float | None]) -> SampleFunction:
    """One sample per run, where there is a value."""
    return lambda view: [
        ((run.shown_id, run.key.job_id), number)
        for run in view.snapshot.runs
        if (number := value(run)) is not None
    ]


def per_factor(value: Callable[[IntensityState, Factor], float | None]) -> SampleFunction:
    """One sample of each intensity in force, where there is one and it has the value."""
    return lambda view: [
        (_factor_labels(state.factor), number)
        for state in _grid_states(view)
        if state.factor is not None and (number := value(state, state.factor)) is not None
    ]


def _grid_states(view: SnapshotView) -> list[IntensityState]:
    """The first intensity, and the second where one is wanted."""
    first = view.snapshot.grid
    return [first] if first.second is None else [first, first.second]


def _factor_labels(factor: Factor) -> tuple[str, str, str, str]:
    return factor.zone, factor.signal, factor.basis, factor.accounting


def grid_requests(view: SnapshotView) -> Samples:
    """How often each live source was asked, by how that went."""
    for feed in view.snapshot.grid.feeds:
        for outcome, times in feed.requests:
            yield (feed.name, outcome), times


def health_value(value: Callable[[DaemonHealth], float]) -> SampleFunction:
    """One sample of how the daemon fares."""
    return lambda view: (((), value(view.snapshot.health)),)


def process_value(value: Callable[[ProcessState], float]) -> SampleFunction:
    """One sample of what the daemon uses, where that can be read."""
    return lambda view: () if view.process is None else (((), value(view.process)),)


def device_info(view: SnapshotView) -> Samples:
    """What each device is."""
    for state in view.snapshot.devices:
        info = state.info
        described = (info.model, info.vendor, info.source, info.ordinal, info.pci_bus_id)
        yield (*info.device, *described), 1


def device_events(view: SnapshotView) -> Samples:
    """Events of each counter, those that may yet happen included."""
    for state in view.snapshot.devices:
        for event, count in state.events.items():
            yield (*state.info.device, event), count


def run_held_idle(view: SnapshotView) -> Samples:
    """Idle energy of what each run holds, by kind of device."""
    held: dict[tuple[str, ...], int] = {}
    for labels, tally in view.runs.items():
        of_kind = labels[:3]
        held[of_kind] = held.get(of_kind, 0) + tally.held_uj
    return [(labels, units.joules(held_uj)) for labels, held_uj in held.items()]


def run_members(view: SnapshotView) -> Samples:
    """Pods and containers of each run."""
    for run in view.snapshot.runs:
        for pod, container in view.snapshot.members.get(run.key, ()):
            yield (run.shown_id, run.key.job_id, pod, container), 1


def run_units(view: SnapshotView) -> Samples:
    """What runs count, as counted."""
    for run in view.snapshot.runs:
        for unit in run.units:
            yield (run.shown_id, run.key.job_id, unit.name), unit.amount - unit.base


def run_forecast(value: Callable[[Forecast], float]) -> SampleFunction:
    """One sample per open run that says how far it has come."""
    return lambda view: [
        ((run.shown_id, run.key.job_id), value(ahead))
        for run in view.snapshot.runs
        if run.ended is None and (ahead := forecast(run.progress)) is not None
    ]


def run_forecast_bounds(value: Callable[[ForecastOutcome], float]) -> SampleFunction:
    """Two samples, low and high, per open run whose forecast has a range."""

    def rows(view: SnapshotView) -> Samples:
        for run in view.snapshot.runs:
            ahead = forecast(run.progress) if run.ended is None else None
            if ahead is not None and ahead.low is not None and ahead.high is not None:
                yield (run.shown_id, run.key.job_id, "low"), value(ahead.low)
                yield (run.shown_id, run.key.job_id, "high"), value(ahead.high)

    return rows


def owner_sums(exported_labels: tuple[str, ...], value: Callable[[Tally], float]) -> SampleFunction:
    """One sample per owner."""

    def rows(view: SnapshotView) -> Samples:
        for owner, tally in view.owners.items():
            given = dict(owner.labels)
            labels = [given.get(name, "") for name in exported_labels]
            yield (owner.user, owner.namespace, *labels), value(tally)

    return rows


def run_cumulative_carbon(view: SnapshotView) -> Samples:
    """Grams of each shown run over its devices, as the ledger knows them."""
    sums = {(run.shown_id, run.key.job_id): 0 for run in view.snapshot.runs}
    for (run_id, job_id, _, _), tally in view.runs.items():
        sums[run_id, job_id] += tally.total_ng
    return [(labels, units.grams(total_ng)) for labels, total_ng in sums.items()]


def run_info(exported_labels: tuple[str, ...]) -> SampleFunction:
    """What each run is, with the labels that the operator lets through."""

    def rows(view: SnapshotView) -> Samples:
        for run in view.snapshot.runs:
            if not run.is_user_known:
                continue  # it would be another series as soon as the name is known
            what = (run.shown_id, run.key.job_id, run.name, run.user, run.namespace)
            given = dict(run.labels) if exported_labels else {}
            labels = [given.get(name, "") for name in exported_labels]
            yield (*what, run.origin, run.account, *labels), 1

    return rows


def grid_info(view: SnapshotView) -> Samples:
    """Where each intensity in force comes from."""
    for state in _grid_states(view):
        if state.factor is not None:
            estimated = "true" if state.factor.estimated else "false"
            yield (*_factor_labels(state.factor), state.factor.source, estimated), 1


def pue(view: SnapshotView) -> Samples:
    """Facility energy over machine energy."""
    factor = view.snapshot.grid.factor
    if factor is not None:
        yield (), factor.pue


def collector_success(view: SnapshotView) -> Samples:
    """Whether each collector worked."""
    return [((state.name,), int(state.ok)) for state in view.snapshot.collectors]


def config_reload(view: SnapshotView) -> Samples:
    """Whether the settings could be read at the last reload; a state is there if not."""
    return [((), int(all(s.ok for s in view.snapshot.collectors if s.name == SETTINGS)))]


def collector_duration(view: SnapshotView) -> Samples:
    """Seconds that each collector took."""
    return [((state.name,), state.seconds) for state in view.snapshot.collectors]


def driver_calls(view: SnapshotView) -> Samples:
    """How often each function of a driver was called."""
    return [((call,), cost.calls) for call, cost in view.snapshot.driver_calls.items()]


def driver_seconds(view: SnapshotView) -> Samples:
    """How long those calls took."""
    return [((call,), cost.seconds) for call, cost in view.snapshot.driver_calls.items()]


def build_info(_: SnapshotView) -> Samples:
    """Which program this is."""
    python = ".".join(map(str, sys.version_info[:3]))
    return (((__version__, python), 1),)
