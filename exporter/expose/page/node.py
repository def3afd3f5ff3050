"""The first page: what the machine spends now, on what, and how every number was got."""

from exporter import human
from exporter.expose.page.document import HOME, METRICS, document
from exporter.expose.page.history import NO_CHARTS, Charts
from exporter.expose.page.panels.collectors import collectors
from exporter.expose.page.panels.devices import device_name, devices
from exporter.expose.page.panels.doubts import doubt, estimated
from exporter.expose.page.panels.figures import figure, figures
from exporter.expose.page.panels.grid import grid, intensity
from exporter.expose.page.panels.methods import methods
from exporter.expose.page.panels.runs import runs
from exporter.expose.page.panels.splits import splits
from exporter.expose.page.panels.unattributed import unattributed
from exporter.expose.view import View, summed
from exporter.markup import Markup, tag, together
from exporter.model.intensity import Factor
from exporter.model.readings import Method
from exporter.model.snapshot import DeviceState, Health, Snapshot

PLACES = {
    "runs": "Runs",
    "devices": "Devices",
    "charged-to-no-run": "No run",
    "how-the-energy-was-got": "Methods",
    "grid-intensity": "Grid",
    "collectors": "Collectors",
}
"""Where the sections are."""


def node_page(
    view: View, charts: Charts = NO_CHARTS, query: str = "", telemetry_path: str = METRICS
) -> bytes:
    """The page of a tick, with the runs that have all words of `query`."""
    snapshot = view.snapshot
    power = human.watts(machine_watts(snapshot.devices))
    main = together(
        tag(
            "header",
            tag("h1", snapshot.node),
            tag(
                "p",
                f"every {snapshot.interval_seconds:g} s \u00b7 ",
                tag("time", f"{human.moment(snapshot.wall)} UTC"),
            ),
            tag("nav", *[tag("a", name, href=f"#{place}") for place, name in PLACES.items()]),
        ),
        _figures(snapshot, view, charts),
        tag("div", _warnings(snapshot)),
        runs(view, charts, query, HOME),
        devices(view, charts),
        unattributed(view),
        methods(view),
        splits(view),
        grid(snapshot.grid, snapshot.wall),
        collectors(snapshot.collectors),
    )
    title = human.printable(f"{power} \u00b7 {snapshot.node}")
    period = max(1.0, snapshot.interval_seconds)
    return document(title, main, HOME, period, telemetry_path)


def machine_watts(devices: tuple[DeviceState, ...]) -> float | None:
    """Power of all devices whose power is known; None where none is."""
    known = [state.power_watts for state in devices if state.power_watts is not None]
    return sum(known) if known else None


def _figures(snapshot: Snapshot, view: View, charts: Charts) -> Markup:
    known = sum(state.power_watts is not None for state in snapshot.devices)
    total = summed(view.devices.values())
    guessed = [tally for labels, tally in view.by_method.items() if labels[2] == Method.ESTIMATED]
    factor = snapshot.grid.factor
    return figures(
        figure(
            "Power now",
            human.watts(machine_watts(snapshot.devices)),
            f"{known} of {len(snapshot.devices)} devices",
            _guessed(snapshot.devices),
            drawing=charts.node,
        ),
        figure(
            "Energy",
            human.energy(total.total_uj),
            "since the ledger began",
            estimated(summed(guessed).total_uj, total.total_uj),
        ),
        figure(
            "Emissions",
            human.carbon(total.total_ng),
            "CO\u2082 equivalent" + (f", PUE {factor.pue:g}" if factor else ""),
        ),
        figure("Grid", intensity(factor), *_origin(factor)),
    )


def _guessed(states: tuple[DeviceState, ...]) -> str:
    """How much of the power is estimated."""
    watts = machine_watts(tuple(s for s in states if s.info.method is Method.ESTIMATED))
    return doubt(f"{human.watts(watts)} of it estimated") if watts else ""


def _origin(factor: Factor | None) -> tuple[str, str]:
    if factor is None:
        return doubt("no intensity is known"), ""
    said = f"{factor.zone}, {factor.basis}"
    return said, doubt("estimated") if factor.estimated else ""


def _warnings(snapshot: Snapshot) -> Markup:
    """What is wrong, the daemon's own ailments first."""
    lines = [
        f"{device_name(state)}: no reading for {human.duration(state.age_seconds)}: {state.why}"
        for state in snapshot.devices
        if not state.up
    ]
    if snapshot.grid.factor is None:
        lines.append(f"Emissions stand still: {snapshot.grid.why}")
    items = [
        *[tag("li", line, class_="grave") for line in _ailments(snapshot.health)],
        *[tag("li", line) for line in (*lines, *snapshot.notes)],
    ]
    return tag("ul", *items, class_="warnings") if items else Markup("")


def _ailments(health: Health) -> list[str]:
    found = []
    if health.sick:
        found.append(f"This daemon cannot heal by itself: {health.sick}")
    if health.ledger_why:
        found.append(f"The ledger could not be written: {health.ledger_why}")
    if health.imbalance_uj:
        found.append(f"The books are out of balance by {health.imbalance_uj} \u00b5J")
    if health.series_dropped:
        found.append(f"{health.series_dropped} runs are shown together as `other`: too many")
    return found
