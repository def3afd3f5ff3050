"""The page of one run: its record, live."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import urlencode

from exporter import formatting, units
from exporter.expose.page.elements import (
    TableCell,
    emissions_text,
    estimated_note,
    number_cell,
    row_header,
    share_bar,
    status_cell,
    summary_item,
    summary_panel,
    table,
    unconverted_note,
)
from exporter.expose.page.layout import METRICS_PATH, RUN_PAGE_ROOT, page_document
from exporter.expose.page.panels import energy_by_device_panel, intensities_panel
from exporter.expose.page.power_history import RunPowerHistory, stacked_area
from exporter.expose.page.runs import receipt_path, related_runs_panel, run_title, secondary_id
from exporter.html import Markup, concatenate, tag
from exporter.model.forecast import Forecast, forecast
from exporter.model.readings import Method
from exporter.model.record import Form, RunRecord
from exporter.model.runs import IMPORTED_UID, REPLAY, RunInfo
from exporter.model.snapshot import Snapshot, run_power_watts

NO_FORECAST = "the run does not report progress"
TOO_EARLY = "too early: no energy was measured between two progress reports"
NO_RANGE = "too early for a prediction interval"


def budget_panel(record: RunRecord) -> Markup:
    """Build the table of budget, progress and forecast; empty if the run has none of them."""
    run = record.run
    ahead = forecast(run.progress) if run.ended is None else None
    if run.budget_grams is None and run.progress is None:
        return Markup("")
    row = (
        _budget_outlook(record, ahead),
        _budget_cell(record),
        _progress_cell(run),
        *(_forecast_cells(ahead) if ahead else _no_forecast_cells(run)),
    )
    heads = ("Outlook", ">Budget used", ">Work done", ">CO2eq, forecast", ">Energy", ">End, UTC")
    return table("Budget and forecast", heads, [row], "")


def _forecast_cells(ahead: Forecast) -> tuple[TableCell, ...]:
    """Build the cells of emissions, energy and end, each with its 95% prediction interval."""
    low, high = ahead.low, ahead.high
    values = [each for each in (ahead, low, high) if each is not None]
    carbon = formatting.carbon_scale(each.carbon_ng for each in values)
    energy = formatting.energy_scale(each.energy_uj for each in values)
    grams, used = carbon.text(ahead.carbon_ng), energy.text(ahead.energy_uj)
    if low is None or high is None:
        return (
            number_cell(grams, NO_RANGE),
            number_cell(used),
            number_cell(formatting.timestamp(ahead.ends)),
        )
    return (
        number_cell(grams, _range_text(carbon.text(low.carbon_ng), carbon.text(high.carbon_ng))),
        number_cell(used, _range_text(energy.text(low.energy_uj), energy.text(high.energy_uj))),
        number_cell(formatting.timestamp(ahead.ends), _time_range_text(low.ends, high.ends)),
    )


def _range_text(low: str, high: str) -> str:
    """Join two numbers; narrow spaces keep each on one line with its unit."""
    return " to ".join(text.replace(" ", formatting.NARROW_SPACE) for text in (low, high))


def _time_range_text(begin: float, end: float) -> str:
    """Format a time range; the dates are omitted if both are on the same day."""
    dates, times = zip(*(formatting.timestamp(wall).split() for wall in (begin, end)), strict=True)
    texts = times if len(set(dates)) == 1 else map(formatting.timestamp, (begin, end))
    return " to ".join(texts)


def _no_forecast_cells(run: RunInfo) -> tuple[TableCell, ...]:
    reason = NO_FORECAST if run.progress is None else TOO_EARLY
    reason = reason if run.ended is None else ""
    return (
        number_cell(formatting.UNKNOWN, reason),
        number_cell(formatting.UNKNOWN),
        number_cell(formatting.UNKNOWN),
    )


def _budget_cell(record: RunRecord) -> TableCell:
    grams = record.run.budget_grams
    if grams is None:
        return number_cell(formatting.UNKNOWN)
    return share_bar(units.grams(record.carbon_ng), grams)._replace(
        remark=f"of {formatting.number(grams)} g"
    )


def _progress_cell(run: RunInfo) -> TableCell:
    if run.progress is None:
        return number_cell(formatting.UNKNOWN)
    done, total = run.progress.last.done, run.progress.total
    return share_bar(done, total)._replace(
        remark=f"{formatting.number(done)} of {formatting.number(total)}"
    )


def _budget_outlook(record: RunRecord, ahead: Forecast | None) -> TableCell:
    """Compare emissions and forecast of this node with the budget.

    For a run on several nodes the other nodes may already have used the rest of the budget.
    """
    grams, nodes = record.run.budget_grams, record.run.nodes
    if grams is None:
        return TableCell("no budget set")
    if units.grams(record.carbon_ng) > grams:
        return status_cell("over budget", ok=False)
    if ahead is not None:
        low, high = ahead.low or ahead, ahead.high or ahead
        if units.grams(low.carbon_ng) > grams:
            return status_cell("will exceed the budget", ok=False)
        if units.grams(high.carbon_ng) > grams:
            return status_cell("may exceed the budget", ok=False)
    if nodes > 1:
        return TableCell(
            "unknown here", f"the budget is for all {nodes} nodes, this is one of them"
        )
    return status_cell("within budget" if ahead is None else "will stay within budget", ok=True)


PER_THOUSAND = 1_000
"""Per-unit costs are given for this many units if at least this many were counted."""

MAX_UJ_PER_UNIT = 1e18
"""278 MWh in microjoules. Per-unit costs above this are not shown, as the amount is too small."""


def results_panel(record: RunRecord) -> Markup:
    """Build the table of logged results and counted units; empty if the run reported none."""
    run = record.run
    amounts = [unit.amount for unit in run.units if _is_meaningful(record, unit.amount)]
    energy = formatting.energy_scale(_per_unit(amount, record.energy_uj) for amount in amounts)
    carbon = formatting.carbon_scale(_per_unit(amount, record.carbon_ng) for amount in amounts)
    counts = [
        (
            row_header(unit.name, "counted"),
            number_cell(formatting.number(unit.amount)),
            *_per_unit_cells(record, unit.amount, energy, carbon),
        )
        for unit in run.units
    ]
    logged = [
        (
            row_header(name, "logged"),
            number_cell(_value_text(value)),
            number_cell(""),
            number_cell(""),
        )
        for name, value in run.logged
    ]
    if not counts and not logged:
        return Markup("")
    heads = ("Result", ">Value", ">Energy", ">Emissions")
    return table("Results and counts", heads, [*counts, *logged], "")


def _value_text(value: float | str) -> str:
    return value if isinstance(value, str) else formatting.result_value(value)


def _is_meaningful(record: RunRecord, amount: float) -> bool:
    return amount * MAX_UJ_PER_UNIT > record.energy_uj


def _per_unit(amount: float, total: int) -> int:
    """Return microjoules or nanograms per unit, or per 1,000 units."""
    return round((PER_THOUSAND if amount >= PER_THOUSAND else 1) * total / amount)


def _per_unit_cells(
    record: RunRecord, amount: float, energy: formatting.DisplayUnit, carbon: formatting.DisplayUnit
) -> tuple[TableCell, TableCell]:
    if not _is_meaningful(record, amount):
        return number_cell(formatting.UNKNOWN), number_cell(formatting.UNKNOWN)
    basis = f"per {formatting.number(PER_THOUSAND)}" if amount >= PER_THOUSAND else "each"
    return (
        number_cell(energy.text(_per_unit(amount, record.energy_uj)), basis),
        number_cell(carbon.text(_per_unit(amount, record.carbon_ng)), basis),
    )


NOT_COUNTED = "excludes network, disks, fans and power supply losses"
SCOPES = {
    "tree": "the lead process and its descendants",
    "cgroup": "all processes in its cgroup",
    "machine": "the whole machine",
}


def details_panel(record: RunRecord, snapshot: Snapshot, root: str) -> Markup:
    """Build the list of the run's metadata."""
    run = record.run
    members = snapshot.members.get(run.key, ())
    rows = [
        ("Coverage", _boundary_text(record)),
        ("Node", _nodes_text(record)),
        ("Scope", f"{SCOPES.get(run.scope, run.scope)}; origin: {run.origin}"),
        ("Job", _search_link(run.key.job_id, root)),
        ("User", run.user),
        ("Account", run.account),
        ("Namespace", run.namespace),
        ("Pods", ", ".join("/".join(filter(None, member)) for member in members)),
        ("Labels", concatenate(*_label_links(run.labels, root))),
        ("Enclosing run", record.inside),
        ("Started", f"{formatting.timestamp(run.started)} UTC"),
        ("Ended", _end_text(record)),
    ]
    pairs = [tag("div", tag("dt", name), tag("dd", text)) for name, text in rows if text]
    return tag("section", tag("h2", "Details"), tag("dl", *pairs))


def _boundary_text(record: RunRecord) -> str:
    kinds = sorted({part.device.kind for part in record.parts})
    imported = f"; as reported by {record.run.origin}" if record.run.key.uid == IMPORTED_UID else ""
    return f"{', '.join(kinds) or 'nothing yet'}; {NOT_COUNTED}{imported}"


def _nodes_text(record: RunRecord) -> str:
    if record.run.nodes <= 1:
        return record.node
    return f"{record.node}, 1 of {record.run.nodes} nodes; each of the others has its own page"


def _label_links(labels: Iterable[tuple[str, str]], root: str) -> list[str]:
    links: list[str] = []
    for name, value in labels:
        links += (", " if links else "", _search_link(f"{name}={value}", root))
    return links


def _search_link(text: str, root: str) -> str:
    """Build a link that searches for all runs with this text."""
    query = urlencode({"q": text}, errors="replace")
    return tag("a", tag("bdi", text), href=f"{root}runs?{query}") if text else ""


def _end_text(record: RunRecord) -> str:
    run = record.run
    if run.ended is None:
        return ""
    reason = f", {run.end_reason}" if run.end_reason else ""
    return f"{formatting.timestamp(run.ended)} UTC{reason}"


def downloads_panel(run: RunInfo, forms: Mapping[str, Form], root: str) -> Markup:
    """Build the download links, one per form of the receipt."""
    links = [
        tag(
            "li",
            tag("a", form.title, href=root + receipt_path(*run.label_values, name)),
        )
        for name, form in forms.items()
    ]
    return tag("section", tag("h2", "Download the receipt"), tag("ul", *links, class_="links"))


TIMELINE_PENDING = "No data yet; the first minute appears after the next ledger commit."
TIMELINE_IMPORTED = "Not available: this run was measured by another tool."
TIMELINE_UNAVAILABLE = "The ledger did not respond; see the warnings on the page of the node."


def timeline_panel(history: RunPowerHistory | None, *, is_imported: bool) -> Markup:
    """Build the chart of power over time, by device kind; imported runs have none."""
    title = tag("h2", "Power over time")
    if history is None or not history.kinds:
        empty = TIMELINE_IMPORTED if is_imported else TIMELINE_PENDING
        return tag("section", title, tag("p", TIMELINE_UNAVAILABLE if history is None else empty))
    sums = [sum(step) for step in zip(*history.kinds.values(), strict=True)]
    peak, mean = formatting.watts(max(sums)), formatting.watts(history.mean_watts)
    since, until = formatting.timestamp(history.since), formatting.timestamp(history.until)
    description = f"from {since} to {until} UTC: maximum {peak}, mean {mean}"
    legend = [tag("li", kind, class_=kind) for kind in history.kinds]
    return tag(
        "section",
        title,
        tag(
            "figure",
            tag("figcaption", tag("span", f"maximum {peak}, mean {mean}"), tag("ul", *legend)),
            stacked_area(history.kinds, f"power {description}"),
            tag("div", tag("time", since), tag("time", f"{until} UTC"), class_="axis"),
        ),
    )


ENDED_REFRESH_SECONDS = 60.0
"""Refresh period of the page of an ended run, whose emissions may still be backfilled."""


REPLAYED = tag(
    "ul",
    tag("li", "nothing was measured: this run was replayed from a recording"),
    class_="warnings",
)


class RunPageData(NamedTuple):
    """The data of a run's page."""

    record: RunRecord
    snapshot: Snapshot
    history: RunPowerHistory | None
    """None if the ledger cannot be read."""
    forms: Mapping[str, Form]


def run_page(data: RunPageData, telemetry_path: str = METRICS_PATH) -> bytes:
    """Render the page of a run."""
    record, snapshot, history, forms = data
    run = record.run
    states = {state.info.device: state for state in snapshot.devices}
    main = concatenate(
        _header(record),
        _summary(record, snapshot),
        *([REPLAYED] if run.origin == REPLAY else []),
        tag("div", budget_panel(record)),
        timeline_panel(history, is_imported=run.key.uid == IMPORTED_UID),
        energy_by_device_panel(record, states),
        intensities_panel(record),
        tag("div", results_panel(record)),
        tag("div", related_runs_panel(run, snapshot, RUN_PAGE_ROOT)),
        details_panel(record, snapshot, RUN_PAGE_ROOT),
        downloads_panel(run, forms, RUN_PAGE_ROOT),
    )
    period = max(1.0, snapshot.interval_seconds) if run.ended is None else ENDED_REFRESH_SECONDS
    title = f"{run_title(run)} \u00b7 {_emissions_text(record)} \u00b7 {record.node}"
    return page_document(formatting.printable(title), main, RUN_PAGE_ROOT, period, telemetry_path)


def _emissions_text(record: RunRecord) -> str:
    return emissions_text(
        record.carbon_ng, record.factors, formatting.carbon_scale((record.carbon_ng,))
    )


def _header(record: RunRecord) -> Markup:
    run = record.run
    other = secondary_id(run)
    return tag(
        "header",
        tag("nav", tag("a", f"\u2190 {record.node}", href=RUN_PAGE_ROOT)),
        tag("h1", tag("bdi", run_title(run))),
        *([tag("p", tag("bdi", other))] if other else []),
        tag("p", tag("time", f"{formatting.timestamp(record.at)} UTC"), class_="now"),
    )


def _summary(record: RunRecord, snapshot: Snapshot) -> Markup:
    run = record.run
    energy_uj, held_uj = record.energy_uj, record.held_uj
    estimated_uj = sum(p.amount.energy_uj for p in record.parts if p.method is Method.ESTIMATED)
    held = (
        f"{formatting.energy(energy_uj - held_uj)} active, {formatting.energy(held_uj)} held idle"
    )
    return summary_panel(
        summary_item(
            "Energy",
            formatting.energy(energy_uj),
            held if held_uj else "all active",
            estimated_note(estimated_uj, energy_uj),
        ),
        summary_item(
            "Emissions",
            _emissions_text(record),
            _mean_intensity(record),
            unconverted_note(record.factors),
        ),
        summary_item(*_power(record, snapshot)),
        summary_item(
            "Duration" if run.ended else "Running for", formatting.duration(record.duration_seconds)
        ),
    )


def _mean_intensity(record: RunRecord) -> str:
    """Return the mean intensity of the energy that has been converted."""
    converted_uj = sum(use.energy_uj for use in record.factors if use.factor is not None)
    if not converted_uj:
        return "CO\u2082 equivalent"
    mean = units.grams(record.carbon_ng) / units.kwh(converted_uj)
    return f"CO\u2082 equivalent; mean {formatting.number(mean)} g/kWh, including PUE"


def _power(record: RunRecord, snapshot: Snapshot) -> tuple[str, str, str]:
    if record.run.ended is None:
        return "Power now", formatting.watts(run_power_watts(snapshot, record.run)), ""
    seconds = record.duration_seconds
    mean = units.joules(record.energy_uj) / seconds if seconds else None
    return "Mean power", formatting.watts(mean), record.run.end_reason
