"""Each device: what it draws, used, and how much of that went to runs."""

from exporter import human
from exporter.expose.page.history import Charts
from exporter.expose.page.panels.doubts import doubt, estimated, method
from exporter.expose.page.table import Cell, bar, bold, number, table, verdict
from exporter.expose.view import Tally, View
from exporter.markup import Markup
from exporter.model.readings import Method
from exporter.model.snapshot import DeviceState


def devices(view: View, charts: Charts) -> Markup:
    """The devices of the node."""
    states = view.snapshot.devices
    has_gpus = any(state.utilization is not None for state in states)
    known = [view.devices.get(state.info.device, Tally()) for state in states]
    energy = human.energy_scale(tally.total_uj for tally in known)
    carbon = human.carbon_scale(tally.total_ng for tally in known)
    rows = []
    for state in states:
        device = state.info.device
        tally = view.devices.get(device, Tally())
        is_known = device in view.devices
        guessed = view.by_method.get((*device, Method.ESTIMATED))
        of_energy = estimated(guessed.total_uj if guessed else 0, tally.total_uj)
        rows.append(
            (
                bold(device_name(state), what(state)),
                number(human.watts(state.power_watts), _limit(state)),
                Cell(charts.devices.get(device, ""), class_="drawn"),
                *([number(_busy(state))] if has_gpus else []),
                number(energy.text(tally.total_uj) if is_known else human.UNKNOWN, of_energy),
                number(carbon.text(tally.total_ng) if is_known else human.UNKNOWN),
                bar(view.attributed.get(device, Tally()).total_uj, tally.total_uj),
                Cell(method(state.info.method), state.info.source),
                verdict("up" if state.up else "silent", _silence(state), ok=state.up),
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


def what(state: DeviceState) -> str:
    """What a device is, and how it is divided."""
    look = state.occupancy
    if look is None or not look.slices:
        return state.info.model
    used = sum(part.slices for part in look.partitions)
    parts = f"MIG, {len(look.partitions)} parts with {used:.3g} of {look.slices} slices"
    return f"{state.info.model}, {parts}" if state.info.model else parts


def _busy(state: DeviceState) -> str:
    return "" if state.utilization is None else human.share(state.utilization, 1)


def _limit(state: DeviceState) -> str:
    """What a power is to be read with: its limit, or that it is a guess."""
    limit = state.info.power_limit_watts
    if state.info.method is Method.ESTIMATED and state.power_watts is not None:
        return doubt("estimated")
    return "" if limit is None else f"of {human.watts(limit)}"


def _silence(state: DeviceState) -> str:
    return "" if state.up else f"for {human.duration(state.age_seconds)}: {state.why}"
