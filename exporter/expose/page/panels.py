"""Panels of devices and carbon intensities, for the node and for one run."""

import math
import time
from collections.abc import Mapping, Sequence

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
    table,
    warning_note,
)
from exporter.expose.page.power_history import PowerCharts
from exporter.expose.snapshot_view import SnapshotView, Tally
from exporter.html import Markup, concatenate
from exporter.model.intensity import Factor, FeedState
from exporter.model.ledger import FactorUse
from exporter.model.readings import Device, Method
from exporter.model.record import RecordPart, RunRecord
from exporter.model.snapshot import DeviceState, IntensityState


def grid_panel(state: IntensityState, now: float) -> Markup:
    """Build the tables of carbon intensities in effect and of live sources."""
    states = [state] if state.second is None else [state, state.second]
    rows = [_factor_cells(each, each.factor) for each in states if each.factor is not None]
    heads = ("Zone", ">Intensity", "Source", "Kind", ">PUE", ">Fallback step")
    empty_text = f"No carbon intensity is available; emissions do not increase: {state.why}"
    return Markup(table("Grid intensity", heads, rows, empty_text) + _feeds_table(state.feeds, now))


def _factor_cells(state: IntensityState, factor: Factor) -> tuple[TableCell, ...]:
    return (
        row_header(factor.zone),
        number_cell(intensity_text(factor), _age_text(state, factor)),
        TableCell(factor.source, _reason(state, factor), "prose"),
        TableCell(f"{factor.signal}, {factor.basis}, {factor.accounting}"),
        number_cell(f"{factor.pue:g}"),
        number_cell(str(factor.step)),
    )


def _reason(state: IntensityState, factor: Factor) -> str:
    """Return why this source is in effect, and whether its value is estimated."""
    return (
        concatenate(warning_note("estimated"), "; ", state.why) if factor.estimated else state.why
    )


def _age_text(state: IntensityState, factor: Factor) -> str:
    """Return the age of an intensity of one time, or the year of an annual mean."""
    if state.age_seconds is None:
        return ""
    if factor.valid_until == math.inf:
        return f"mean of {time.gmtime(factor.as_of).tm_year}"
    return f"{formatting.duration(state.age_seconds)} old"


def _feeds_table(feeds: Sequence[FeedState], now: float) -> Markup:
    if not feeds:
        return Markup("")
    rows = [
        (
            row_header(feed.name, feed.zone),
            _feed_status(feed),
            number_cell(str(sum(times for _, times in feed.requests)), _failure_counts(feed)),
            number_cell(
                "never" if feed.answered is None else f"{_time_since(feed.answered, now)} ago"
            ),
            TableCell(feed.why, class_="prose"),
        )
        for feed in feeds
    ]
    heads = ("Source", "State", ">Requests", ">Last response", "Message")
    return table("Live sources of intensity", heads, rows, "")


def _feed_status(feed: FeedState) -> TableCell:
    if not any(times for _, times in feed.requests) and feed.answered is None:
        return TableCell("idle")
    return status_cell("working" if feed.ok else "failing", ok=feed.ok)


def _failure_counts(feed: FeedState) -> str:
    return ", ".join(f"{outcome} {times}" for outcome, times in feed.requests if outcome != "ok")


def _time_since(moment: float, now: float) -> str:
    return formatting.duration(max(0.0, now - moment))


def intensity_text(factor: Factor | None) -> str:
    """Format a carbon intensity in grams of CO2 equivalent per kilowatt hour."""
    return (
        formatting.UNKNOWN if factor is None else f"{formatting.number(factor.grams_per_kwh)} g/kWh"
    )


def devices_panel(view: SnapshotView, charts: PowerCharts) -> Markup:
    """Build the table of the node's devices."""
    states = view.snapshot.devices
    has_gpus = any(state.utilization is not None for state in states)
    tallies = [view.devices.get(state.info.device, Tally()) for state in states]
    energy = formatting.energy_scale(tally.total_uj for tally in tallies)
    carbon = formatting.carbon_scale(tally.total_ng for tally in tallies)
    rows = []
    for state in states:
        device = state.info.device
        tally = view.devices.get(device, Tally())
        is_counted = device in view.devices
        estimated = view.by_method.get((*device, Method.ESTIMATED))
        energy_note = estimated_note(estimated.total_uj if estimated else 0, tally.total_uj)
        rows.append(
            (
                row_header(device_name(state), device_description(state)),
                number_cell(formatting.watts(state.power_watts), _power_remark(state)),
                TableCell(charts.devices.get(device, ""), class_="drawn"),
                *([number_cell(_utilization_text(state))] if has_gpus else []),
                number_cell(
                    energy.text(tally.total_uj) if is_counted else formatting.UNKNOWN, energy_note
                ),
                number_cell(carbon.text(tally.total_ng) if is_counted else formatting.UNKNOWN),
                share_bar(view.attributed.get(device, Tally()).total_uj, tally.total_uj),
                TableCell(method_label(state.info.method), state.info.source),
                status_cell("up" if state.up else "down", _failure_remark(state), ok=state.up),
            )
        )
    heads = (
        *("Device", ">Power", "Last hour", *([">Utilization"] if has_gpus else [])),
        *(">Energy", ">Emissions", ">Attributed", "Method", "State"),
    )
    return table("Devices", heads, rows, "No energy source can be read; see the collectors below.")


def device_name(state: DeviceState) -> str:
    """Return the display name of a device: its kind, and its index or id."""
    kind, name = state.info.device
    return f"{kind} {state.info.ordinal or name}"


def device_description(state: DeviceState) -> str:
    """Return the model of a device and its partitions."""
    activity = state.activity
    if activity is None or not activity.slices:
        return state.info.model
    used = sum(part.slices for part in activity.partitions)
    parts = f"{len(activity.partitions)} partitions with {used:.3g} of {activity.slices} slices"
    return f"{state.info.model}, {parts}" if state.info.model else parts


def _utilization_text(state: DeviceState) -> str:
    return "" if state.utilization is None else formatting.percentage(state.utilization, 1)


def _power_remark(state: DeviceState) -> str:
    """Return the power limit, or a note that the power is estimated."""
    limit = state.info.power_limit_watts
    if state.info.method is Method.ESTIMATED and state.power_watts is not None:
        return warning_note("estimated")
    return "" if limit is None else f"of {formatting.watts(limit)}"


def _failure_remark(state: DeviceState) -> str:
    return "" if state.up else f"for {formatting.duration(state.age_seconds)}: {state.why}"


def energy_by_device_panel(record: RunRecord, states: Mapping[Device, DeviceState]) -> Markup:
    """Build the table of a run's energy by device; the rows add up exactly to its energy."""
    amounts = [part.amount for part in record.parts]
    energy = formatting.energy_scale(amount.energy_uj for amount in amounts)
    active = formatting.energy_scale(amount.energy_uj - amount.held_uj for amount in amounts)
    held = formatting.energy_scale(amount.held_uj for amount in amounts)
    carbon = formatting.carbon_scale(amount.carbon_ng for amount in amounts)
    rows = []
    for part in sorted(record.parts, key=lambda part: -part.amount.energy_uj):
        amount = part.amount
        rows.append(
            (
                _device_cell(part, states.get(part.device)),
                number_cell(energy.text(amount.energy_uj)),
                number_cell(active.text(amount.energy_uj - amount.held_uj)),
                number_cell(held.text(amount.held_uj)),
                number_cell(carbon.text(amount.carbon_ng)),
                share_bar(amount.energy_uj, record.energy_uj),
                _method_cell(part),
                TableCell(formatting.SPLIT_DESCRIPTIONS[part.split]),
            )
        )
    heads = (
        *("Device", ">Energy", ">Active", ">Held idle", ">Emissions", ">Of the run"),
        *("Method", "Split"),
    )
    return table("Energy by device", heads, rows, "No energy has been attributed to this run yet.")


def _device_cell(part: RecordPart, state: DeviceState | None) -> TableCell:
    """Build the heading cell of a device; a device that is no longer present is shown by its id."""
    if state is None:
        return row_header(f"{part.device.kind} {part.device.id}")
    return row_header(device_name(state), device_description(state))


def _method_cell(part: RecordPart) -> TableCell:
    """Build the cell of a measurement method, with a description unless it is a counter."""
    if part.method is Method.COUNTER:
        return TableCell(method_label(part.method))
    return TableCell(method_label(part.method), METHOD_DESCRIPTIONS[part.method], "prose")


UNCONVERTED_REMARK = "emissions are added when an intensity for this time is available"


def intensities_panel(record: RunRecord) -> Markup:
    """Build the table of all carbon intensities of a run, with the energy converted by each."""
    total_uj = sum(use.energy_uj for use in record.factors)
    energy = formatting.energy_scale(use.energy_uj for use in record.factors)
    carbon = formatting.carbon_scale(use.carbon_ng for use in record.factors)
    rows = [
        (*_factor_use_cells(use, energy, carbon), share_bar(use.energy_uj, total_uj))
        for use in record.factors
    ]
    heads = (
        *("Zone", ">Intensity", "Source", "Kind", ">PUE", ">Energy", ">Emissions"),
        ">Of the run",
    )
    return table("Carbon intensity", heads, rows, "No energy has been converted yet.")


def _factor_use_cells(
    use: FactorUse, energy: formatting.DisplayUnit, carbon: formatting.DisplayUnit
) -> tuple[TableCell, ...]:
    factor = use.factor
    amounts = number_cell(energy.text(use.energy_uj)), number_cell(carbon.text(use.carbon_ng))
    if factor is None:
        unknown = TableCell(formatting.UNKNOWN)
        return (
            row_header(warning_note("not available"), UNCONVERTED_REMARK),
            *[unknown] * 4,
            *amounts,
        )
    fallback = warning_note(f"fallback step {factor.step}") if factor.step else ""
    return (
        row_header(factor.zone, fallback),
        number_cell(intensity_text(factor)),
        TableCell(factor.source, warning_note("estimated") if factor.estimated else "", "prose"),
        TableCell(f"{factor.signal}, {factor.basis}, {factor.accounting}"),
        number_cell(f"{factor.pue:g}"),
        *amounts,
    )
