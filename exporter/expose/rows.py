"""The samples of each metric family: functions from a `View` to label values and numbers."""

import sys
from collections.abc import Callable, Iterable
from typing import TypeAlias

from exporter import __version__, units
from exporter.expose.process import ProcessState
from exporter.expose.view import Tallies, Tally, View
from exporter.model.forecast import Forecast, Outcome, forecast
from exporter.model.intensity import Factor
from exporter.model.runs import RunInfo
from exporter.model.snapshot import DeviceState, GridState, Health
from exporter.model.workload import SETTINGS

Sample: TypeAlias = tuple[tuple[str, ...], float]
Samples: TypeAlias = Iterable[Sample]
Rows: TypeAlias = Callable[[View], Samples]

MILLI = 3
"""Digits kept of watts, ratios of time and ages: finer than any meter, and a shorter page."""


def energy(tallies: Callable[[View], Tallies]) -> Rows:
    """Joules as counted."""
    return lambda view: [
        (labels, units.joules(tally.counted_uj)) for labels, tally in tallies(view).items()
    ]


def carbon(tallies: Callable[[View], Tallies]) -> Rows:
    """Grams as counted."""
    return lambda view: [
        (labels, units.grams(tally.counted_ng)) for labels, tally in tallies(view).items()
    ]


def cumulative_energy(tallies: Callable[[View], Tallies]) -> Rows:
    """Joules as the ledger knows them."""
    return lambda view: [
        (labels, units.joules(tally.total_uj)) for labels, tally in tallies(view).items()
    ]


def cumulative_carbon(tallies: Callable[[View], Tallies]) -> Rows:
    """Grams as the ledger knows them."""
    return lambda view: [
        (labels, units.grams(tally.total_ng)) for labels, tally in tallies(view).items()
    ]


def power(tallies: Callable[[View], Tallies]) -> Rows:
    """Watts, where they are known."""
    return lambda view: [
        (labels, round(tally.power_watts, MILLI))
        for labels, tally in tallies(view).items()
        if tally.power_watts is not None
    ]


def device(value: Callable[[DeviceState], float | None]) -> Rows:
    """One sample per device, where there is a value."""
    return lambda view: [
        (state.info.device, number)
        for state in view.snapshot.devices
        if (number := value(state)) is not None
    ]


def run(value: Callable[[RunInfo], float | None]) -> Rows:
    """One sample per run, where there is a value."""
    return lambda view: [
        ((run.shown_id, run.key.job_id), number)
        for run in view.snapshot.runs
        if (number := value(run)) is not None
    ]


def grid(value: Callable[[GridState, Factor], float | None]) -> Rows:
    """One sample of each intensity in force, where there is one and it has the value."""
    return lambda view: [
        (_counted(state.factor), number)
        for state in _grids(view)
        if state.factor is not None and (number := value(state, state.factor)) is not None
    ]


def _grids(view: View) -> list[GridState]:
    """The first intensity, and the second where one is wanted."""
    first = view.snapshot.grid
    return [first] if first.second is None else [first, first.second]


def _counted(factor: Factor) -> tuple[str, str, str, str]:
    return factor.zone, factor.signal, factor.basis, factor.accounting


def grid_requests(view: View) -> Samples:
    """How often each live source was asked, by how that went."""
    for feed in view.snapshot.grid.feeds:
        for outcome, times in feed.requests:
            yield (feed.name, outcome), times


def health(value: Callable[[Health], float]) -> Rows:
    """One sample of how the daemon fares."""
    return lambda view: (((), value(view.snapshot.health)),)


def process(value: Callable[[ProcessState], float]) -> Rows:
    """One sample of what the daemon uses, where that can be read."""
    return lambda view: () if view.process is None else (((), value(view.process)),)


def device_info(view: View) -> Samples:
    """What each device is."""
    for state in view.snapshot.devices:
        info = state.info
        described = (info.model, info.vendor, info.source, info.ordinal, info.pci_bus_id)
        yield (*info.device, *described), 1


def device_events(view: View) -> Samples:
    """Events of each counter, those that may yet happen included."""
    for state in view.snapshot.devices:
        for event, count in state.events.items():
            yield (*state.info.device, event), count


def run_held(view: View) -> Samples:
    """Idle energy of what each run holds, by kind of device."""
    held: dict[tuple[str, ...], int] = {}
    for labels, tally in view.runs.items():
        of_kind = labels[:3]
        held[of_kind] = held.get(of_kind, 0) + tally.held_uj
    return [(labels, units.joules(held_uj)) for labels, held_uj in held.items()]


def run_members(view: View) -> Samples:
    """Pods and containers of each run."""
    for run in view.snapshot.runs:
        for pod, container in view.snapshot.members.get(run.key, ()):
            yield (run.shown_id, run.key.job_id, pod, container), 1


def run_units(view: View) -> Samples:
    """What runs count, as counted."""
    for run in view.snapshot.runs:
        for unit in run.units:
            yield (run.shown_id, run.key.job_id, unit.name), unit.amount - unit.base


def run_forecast(value: Callable[[Forecast], float]) -> Rows:
    """One sample per open run that says how far it has come."""
    return lambda view: [
        ((run.shown_id, run.key.job_id), value(ahead))
        for run in view.snapshot.runs
        if run.ended is None and (ahead := forecast(run.progress)) is not None
    ]


def run_forecast_bounds(value: Callable[[Outcome], float]) -> Rows:
    """Two samples, low and high, per open run whose forecast has a range."""

    def rows(view: View) -> Samples:
        for run in view.snapshot.runs:
            ahead = forecast(run.progress) if run.ended is None else None
            if ahead is not None and ahead.low is not None and ahead.high is not None:
                yield (run.shown_id, run.key.job_id, "low"), value(ahead.low)
                yield (run.shown_id, run.key.job_id, "high"), value(ahead.high)

    return rows


def owners(exported_labels: tuple[str, ...], value: Callable[[Tally], float]) -> Rows:
    """One sample per owner."""

    def rows(view: View) -> Samples:
        for owner, tally in view.owners.items():
            given = dict(owner.labels)
            labels = [given.get(name, "") for name in exported_labels]
            yield (owner.user, owner.namespace, *labels), value(tally)

    return rows


def run_cumulative_carbon(view: View) -> Samples:
    """Grams of each shown run over its devices, as the ledger knows them."""
    sums = {(run.shown_id, run.key.job_id): 0 for run in view.snapshot.runs}
    for (run_id, job_id, _, _), tally in view.runs.items():
        sums[run_id, job_id] += tally.total_ng
    return [(labels, units.grams(total_ng)) for labels, total_ng in sums.items()]


def run_info(exported_labels: tuple[str, ...]) -> Rows:
    """What each run is, with the labels that the operator lets through."""

    def rows(view: View) -> Samples:
        for run in view.snapshot.runs:
            if not run.is_user_known:
                continue  # it would be another series as soon as the name is known
            what = (run.shown_id, run.key.job_id, run.name, run.user, run.namespace)
            given = dict(run.labels) if exported_labels else {}
            labels = [given.get(name, "") for name in exported_labels]
            yield (*what, run.origin, run.account, *labels), 1

    return rows


def grid_info(view: View) -> Samples:
    """Where each intensity in force comes from."""
    for state in _grids(view):
        if state.factor is not None:
            estimated = "true" if state.factor.estimated else "false"
            yield (*_counted(state.factor), state.factor.source, estimated), 1


def pue(view: View) -> Samples:
    """Facility energy over machine energy."""
    factor = view.snapshot.grid.factor
    if factor is not None:
        yield (), factor.pue


def collector_success(view: View) -> Samples:
    """Whether each collector worked."""
    return [((state.name,), int(state.ok)) for state in view.snapshot.collectors]


def config_reload(view: View) -> Samples:
    """Whether the settings could be read at the last reload; a state is there if not."""
    return [((), int(all(s.ok for s in view.snapshot.collectors if s.name == SETTINGS)))]


def collector_duration(view: View) -> Samples:
    """Seconds that each collector took."""
    return [((state.name,), state.seconds) for state in view.snapshot.collectors]


def driver_calls(view: View) -> Samples:
    """How often each function of a driver was called."""
    return [((call,), cost.calls) for call, cost in view.snapshot.driver_calls.items()]


def driver_seconds(view: View) -> Samples:
    """How long those calls took."""
    return [((call,), cost.seconds) for call, cost in view.snapshot.driver_calls.items()]


def build_info(_: View) -> Samples:
    """Which program this is."""
    python = ".".join(map(str, sys.version_info[:3]))
    return (((__version__, python), 1),)
