"""The page of the node: current power, unattributed energy, measurement methods and sources."""

from collections.abc import Sequence

from exporter import formatting
from exporter.expose.page.elements import (
    METHOD_DESCRIPTIONS,
    TableCell,
    estimated_note,
    method_label,
    number_cell,
    row_header,
    share_bar,
    status_cell,
    summary_item,
    summary_panel,
    table,
    warning_note,
)
from exporter.expose.page.layout import HOME_ROOT, METRICS_PATH, page_document
from exporter.expose.page.panels import device_name, devices_panel, grid_panel, intensity_text
from exporter.expose.page.power_history import NO_CHARTS, PowerCharts
from exporter.expose.page.runs import runs_panel
from exporter.expose.snapshot_view import SnapshotView
from exporter.expose.tallies import sum_tallies
from exporter.html import Markup, concatenate, tag
from exporter.model.intensity import Factor
from exporter.model.readings import Method
from exporter.model.snapshot import DaemonHealth, DeviceState, Snapshot
from exporter.model.workload import CollectorState, SplitMethod, UnattributedReason

REASON_DESCRIPTIONS = {
    UnattributedReason.IDLE: "idle power of the hardware",
    UnattributedReason.OTHER: "activity of processes that belong to no run",
    UnattributedReason.UNALLOCATED: "devices that no run holds",
    UnattributedReason.UNKNOWN_PROCESS: "GPU processes that belong to no run or are not visible",
    UnattributedReason.RESTART: "consumed while this exporter was not running",
}


def unattributed_panel(view: SnapshotView) -> Markup:
    """Build the table of unattributed energy by reason, over all devices."""
    total = sum_tallies(view.devices.values())
    tallies = {
        reason: sum_tallies(t for (_, _, of), t in view.unattributed.items() if of == reason)
        for reason in UnattributedReason
    }
    energy = formatting.energy_scale(tally.total_uj for tally in tallies.values())
    carbon = formatting.carbon_scale(tally.total_ng for tally in tallies.values())
    rows = [
        (
            row_header(reason.replace("_", " "), REASON_DESCRIPTIONS[reason]),
            number_cell(formatting.watts(tally.power_watts)),
            number_cell(energy.text(tally.total_uj)),
            number_cell(carbon.text(tally.total_ng)),
            share_bar(tally.total_uj, total.total_uj),
        )
        for reason, tally in tallies.items()
        if tally.total_uj
    ]
    heads = ("Reason", ">Power", ">Energy", ">Emissions", ">Of the machine")
    return table("Unattributed energy", heads, rows, "No data yet.")


def splits_panel(view: SnapshotView) -> Markup:
    """Build the table of attributed energy by split method."""
    total = sum_tallies(view.attributed.values())
    tallies = []
    for split in SplitMethod:
        matching = {labels: t for labels, t in view.by_split.items() if labels[2] == split}
        kinds = sorted({kind for kind, _, _ in matching})
        tallies.append((split, kinds, sum_tallies(matching.values()).total_uj))
    energy = formatting.energy_scale(energy_uj for _, _, energy_uj in tallies)
    rows = [
        (
            TableCell(formatting.SPLIT_DESCRIPTIONS[split]),
            TableCell(", ".join(kinds)),
            number_cell(energy.text(energy_uj)),
            share_bar(energy_uj, total.total_uj),
        )
        for split, kinds, energy_uj in tallies
        if energy_uj
    ]
    heads = ("Split", "Devices", ">Energy", ">Of all runs")
    return table("Split methods", heads, rows, "No data yet.")


def methods_panel(view: SnapshotView) -> Markup:
    """Build the table of energy by measurement method."""
    total = sum_tallies(view.devices.values())
    tallies = []
    for method in Method:
        matching = {labels: t for labels, t in view.by_method.items() if labels[2] == method}
        kinds = sorted({kind for (kind, _, _), t in matching.items() if t.total_uj})
        tallies.append((method, kinds, sum_tallies(matching.values()).total_uj))
    energy = formatting.energy_scale(energy_uj for _, _, energy_uj in tallies)
    rows = [
        (
            TableCell(method_label(method), METHOD_DESCRIPTIONS[method]),
            TableCell(", ".join(kinds)),
            number_cell(energy.text(energy_uj)),
            share_bar(energy_uj, total.total_uj),
        )
        for method, kinds, energy_uj in tallies
        if energy_uj
    ]
    heads = ("Method", "Devices", ">Energy", ">Of the machine")
    return table("Measurement methods", heads, rows, "No data yet.")


def collectors_panel(states: Sequence[CollectorState]) -> Markup:
    """Build the table of collectors with their state and messages."""
    rows = [
        (
            row_header(state.name),
            status_cell("working" if state.ok else "failing", ok=state.ok),
            number_cell(formatting.duration(state.seconds)),
            TableCell(state.why, class_="prose"),
        )
        for state in states
    ]
    return table(
        "Collectors",
        ("Collector", "State", ">Duration", "Message"),
        rows,
        "No collector is enabled.",
    )


SECTION_ANCHORS = {
    "runs": "Runs",
    "devices": "Devices",
    "unattributed-energy": "Unattributed",
    "measurement-methods": "Methods",
    "grid-intensity": "Grid",
    "collectors": "Collectors",
}
"""Anchors of the page's sections."""


def node_page(
    view: SnapshotView,
    charts: PowerCharts = NO_CHARTS,
    query: str = "",
    telemetry_path: str = METRICS_PATH,
) -> bytes:
    """Render the page of a tick, with the runs that match all words of `query`."""
    snapshot = view.snapshot
    power = formatting.watts(machine_watts(snapshot.devices))
    main = concatenate(
        tag(
            "header",
            tag("h1", snapshot.node),
            tag(
                "p",
                f"every {snapshot.interval_seconds:g} s \u00b7 ",
                tag("time", f"{formatting.timestamp(snapshot.wall)} UTC"),
            ),
            tag(
                "nav",
                *[tag("a", name, href=f"#{place}") for place, name in SECTION_ANCHORS.items()],
            ),
        ),
        _summary(snapshot, view, charts),
        tag("div", _warnings(snapshot)),
        runs_panel(view, charts, query, HOME_ROOT),
        devices_panel(view, charts),
        unattributed_panel(view),
        methods_panel(view),
        splits_panel(view),
        grid_panel(snapshot.grid, snapshot.wall),
        collectors_panel(snapshot.collectors),
    )
    title = formatting.printable(f"{power} \u00b7 {snapshot.node}")
    period = max(1.0, snapshot.interval_seconds)
    return page_document(title, main, HOME_ROOT, period, telemetry_path)


def machine_watts(devices: tuple[DeviceState, ...]) -> float | None:
    """Return the sum of all known device powers in watts; None if none is known."""
    powers = [state.power_watts for state in devices if state.power_watts is not None]
    return sum(powers) if powers else None


def _summary(snapshot: Snapshot, view: SnapshotView, charts: PowerCharts) -> Markup:
    with_power = sum(state.power_watts is not None for state in snapshot.devices)
    total = sum_tallies(view.devices.values())
    estimated = [tally for labels, tally in view.by_method.items() if labels[2] == Method.ESTIMATED]
    factor = snapshot.grid.factor
    return summary_panel(
        summary_item(
            "Power now",
            formatting.watts(machine_watts(snapshot.devices)),
            f"{with_power} of {len(snapshot.devices)} devices",
            _estimated_power(snapshot.devices),
            drawing=charts.node,
        ),
        summary_item(
            "Energy",
            formatting.energy(total.total_uj),
            "since the ledger was created",
            estimated_note(sum_tallies(estimated).total_uj, total.total_uj),
        ),
        summary_item(
            "Emissions",
            formatting.carbon(total.total_ng),
            "CO\u2082 equivalent" + (f", PUE {factor.pue:g}" if factor else ""),
        ),
        summary_item("Grid", intensity_text(factor), *_intensity_origin(factor)),
    )


def _estimated_power(states: tuple[DeviceState, ...]) -> str:
    """Return a note on the estimated part of the power."""
    watts = machine_watts(tuple(s for s in states if s.info.method is Method.ESTIMATED))
    return warning_note(f"{formatting.watts(watts)} estimated") if watts else ""


def _intensity_origin(factor: Factor | None) -> tuple[str, str]:
    if factor is None:
        return warning_note("no intensity available"), ""
    origin = f"{factor.zone}, {factor.basis}"
    return origin, warning_note("estimated") if factor.estimated else ""


def _warnings(snapshot: Snapshot) -> Markup:
    """Build the list of warnings, with problems of the daemon itself first."""
    lines = [
        f"{device_name(state)}: no reading for {formatting.duration(state.age_seconds)}: "
        f"{state.why}"
        for state in snapshot.devices
        if not state.up
    ]
    if snapshot.grid.factor is None:
        lines.append(f"Emissions do not increase: {snapshot.grid.why}")
    items = [
        *[tag("li", line, class_="grave") for line in _daemon_problems(snapshot.health)],
        *[tag("li", line) for line in (*lines, *snapshot.notes)],
    ]
    return tag("ul", *items, class_="warnings") if items else Markup("")


def _daemon_problems(health: DaemonHealth) -> list[str]:
    problems = []
    if health.sick:
        problems.append(f"Unrecoverable error of the daemon: {health.sick}")
    if health.ledger_why:
        problems.append(f"The ledger could not be written: {health.ledger_why}")
    if health.imbalance_uj:
        problems.append(f"The accounts are out of balance by {health.imbalance_uj} \u00b5J")
    if health.series_dropped:
        problems.append(
            f"{health.series_dropped} runs are counted as `other`: attribute.max_runs was reached"
        )
    return problems
