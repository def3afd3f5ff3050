"""Each device: what it draws, used, and how much of that went to runs."""

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
    """The intensity in force and where it comes from, the second one, and the live sources."""
    states = [state] if state.second is None else [state, state.second]
    rows = [_factor_cells(each, each.factor) for each in states if each.factor is not None]
    heads = ("Zone", ">Intensity", "Source", "Counts", ">PUE", ">Fallback step")
    nothing = f"None is known, grams stand still: {state.why}"
    return Markup(table("Grid intensity", heads, rows, nothing) + _feeds_table(state.feeds, now))


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
    """Why this source is in force, and whether its value is estimated."""
    return (
        concatenate(warning_note("estimated"), "; ", state.why) if factor.estimated else state.why
    )


def _age_text(state: IntensityState, factor: Factor) -> str:
    """How old a value of a moment is; of which year one is that is tied to no moment."""
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
    heads = ("Source", "State", ">Requests", ">Last answer", "What to do")
    return table("Live sources of intensity", heads, rows, "")


def _feed_status(feed: FeedState) -> TableCell:
    if not any(times for _, times in feed.requests) and feed.answered is None:
        return TableCell("stands by")
    return status_cell("works" if feed.ok else "does not work", ok=feed.ok)


def _failure_counts(feed: FeedState) -> str:
    return ", ".join(f"{outcome} {times}" for outcome, times in feed.requests if outcome != "ok")


def _time_since(moment: float, now: float) -> str:
    return formatting.duration(max(0.0, now - moment))


def intensity_text(factor: Factor | None) -> str:
    """Grams of CO2 equivalent per kilowatt hour."""
    return (
        formatting.UNKNOWN if factor is None else f"{formatting.number(factor.grams_per_kwh)} g/kWh"
    )


def devices_panel(view: SnapshotView, charts: PowerCharts) -> Markup:
    """The devices of the node."""
    states = view.snapshot.devices
    has_gpus = any(state.utilization is not None for state in states)
    known = [view.devices.get(state.info.device, Tally()) for state in states]
    energy = formatting.energy_scale(tally.total_uj for tally in known)
    carbon = formatting.carbon_scale(tally.total_ng for tally in known)
    rows = []
    for state in states:
        device = state.info.device
        tally = view.devices.get(device, Tally())
        is_known = device in view.devices
        guessed = view.by_method.get((*device, Method.ESTIMATED))
        of_energy = estimated_note(guessed.total_uj if guessed else 0, tally.total_uj)
        rows.append(
            (
                row_header(device_name(state), device_description(state)),
                number_cell(formatting.watts(state.power_watts), _power_remark(state)),
                TableCell(charts.devices.get(device, ""), class_="drawn"),
                *([number_cell(_utilization_text(state))] if has_gpus else []),
                number_cell(
                    energy.text(tally.total_uj) if is_known else formatting.UNKNOWN, of_energy
                ),
                number_cell(carbon.text(tally.total_ng) if is_known else formatting.UNKNOWN),
                share_bar(view.attributed.get(device, Tally()).total_uj, tally.total_uj),
                TableCell(method_label(state.info.method), state.info.source),
                status_cell("up" if state.up else "silent", _failure_remark(state), ok=state.up),
            )
        )
    heads = (
        *("Device", ">Power", "Last hour", *([">Busy"] if has_gpus else [])),
        *(">Energy", ">Emissions", ">To runs", "How it is got", "State"),
    )
    return table("Devices", heads, rows, "No energy source can be read; see the collectors below.")


def device_name(state: DeviceState) -> str:
    """A device as a person calls it: its kind, and its number or id."""
    kind, name = state.info.device
    return f"{kind} {state.info.ordinal or name}"


def device_description(state: DeviceState) -> str:
    """What a device is, and how it is divided."""
    look = state.activity
    if look is None or not look.slices:
        return state.info.model
    used = sum(part.slices for part in look.partitions)
    parts = f"MIG, {len(look.partitions)} parts with {used:.3g} of {look.slices} slices"
    return f"{state.info.model}, {parts}" if state.info.model else parts


def _utilization_text(state: DeviceState) -> str:
    return "" if state.utilization is None else formatting.percentage(state.utilization, 1)


def _power_remark(state: DeviceState) -> str:
    """What a power is to be read with: its limit, or that it is a guess."""
    limit = state.info.power_limit_watts
    if state.info.method is Method.ESTIMATED and state.power_watts is not None:
        return warning_note("estimated")
    return "" if limit is None else f"of {formatting.watts(limit)}"


def _failure_remark(state: DeviceState) -> str:
    return "" if state.up else f"for {formatting.duration(state.age_seconds)}: {state.why}"


def energy_by_device_panel(record: RunRecord, states: Mapping[Device, DeviceState]) -> Markup:
    """The energy of a run by device; the rows add up to its energy, exactly."""
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
        *("How it is got", "How it was shared"),
    )
    return table("Energy by device", heads, rows, "It has used nothing that is known yet.")


def _device_cell(part: RecordPart, state: DeviceState | None) -> TableCell:
    """A device that is no longer there is called by its id."""
    if state is None:
        return row_header(f"{part.device.kind} {part.device.id}")
    return row_header(device_name(state), device_description(state))


def _method_cell(part: RecordPart) -> TableCell:
    """What is not the hardware's own number says so at length."""
    if part.method is Method.COUNTER:
        return TableCell(method_label(part.method))
    return TableCell(method_label(part.method), METHOD_DESCRIPTIONS[part.method], "prose")


UNCONVERTED_REMARK = "grams are filled in when an intensity for its time arrives"


def intensities_panel(record: RunRecord) -> Markup:
    """Every intensity that was met, and how much energy in its time."""
    whole = sum(use.energy_uj for use in record.factors)
    energy = formatting.energy_scale(use.energy_uj for use in record.factors)
    carbon = formatting.carbon_scale(use.carbon_ng for use in record.factors)
    rows = [
        (*_factor_use_cells(use, energy, carbon), share_bar(use.energy_uj, whole))
        for use in record.factors
    ]
    heads = (
        *("Zone", ">Intensity", "Source", "Counts", ">PUE", ">Energy", ">Emissions"),
        ">Of the run",
    )
    return table("Carbon intensity", heads, rows, "None was needed yet.")


def _factor_use_cells(
    use: FactorUse, energy: formatting.DisplayUnit, carbon: formatting.DisplayUnit
) -> tuple[TableCell, ...]:
    factor = use.factor
    amounts = number_cell(energy.text(use.energy_uj)), number_cell(carbon.text(use.carbon_ng))
    if factor is None:
        nothing = TableCell(formatting.UNKNOWN)
        return (row_header(warning_note("not known"), UNCONVERTED_REMARK), *[nothing] * 4, *amounts)
    fallback = warning_note(f"fallback step {factor.step}") if factor.step else ""
    return (
        row_header(factor.zone, fallback),
        number_cell(intensity_text(factor)),
        TableCell(factor.source, warning_note("estimated") if factor.estimated else "", "prose"),
        TableCell(f"{factor.signal}, {factor.basis}, {factor.accounting}"),
        number_cell(f"{factor.pue:g}"),
        *amounts,
    )
