"""What a run used of each device, how that was got and how it was shared."""

from collections.abc import Mapping

from exporter import human
from exporter.expose.page.panels.devices import device_name, what
from exporter.expose.page.panels.doubts import HOW, method
from exporter.expose.page.table import Cell, bar, bold, number, table
from exporter.markup import Markup
from exporter.model.readings import Device, Method
from exporter.model.record import Part, RunRecord
from exporter.model.snapshot import DeviceState


def parts(record: RunRecord, states: Mapping[Device, DeviceState]) -> Markup:
    """The energy of a run by device; the rows add up to its energy, exactly."""
    amounts = [part.amount for part in record.parts]
    energy = human.energy_scale(amount.energy_uj for amount in amounts)
    active = human.energy_scale(amount.energy_uj - amount.held_uj for amount in amounts)
    held = human.energy_scale(amount.held_uj for amount in amounts)
    carbon = human.carbon_scale(amount.carbon_ng for amount in amounts)
    rows = []
    for part in sorted(record.parts, key=lambda part: -part.amount.energy_uj):
        amount = part.amount
        rows.append(
            (
                _device(part, states.get(part.device)),
                number(energy.text(amount.energy_uj)),
                number(active.text(amount.energy_uj - amount.held_uj)),
                number(held.text(amount.held_uj)),
                number(carbon.text(amount.carbon_ng)),
                bar(amount.energy_uj, record.energy_uj),
                _how(part),
                Cell(human.SPLITS[part.split]),
            )
        )
    heads = (
        *("Device", ">Energy", ">Active", ">Held idle", ">Emissions", ">Of the run"),
        *("How it is got", "How it was shared"),
    )
    return table("Energy by device", heads, rows, "It has used nothing that is known yet.")


def _device(part: Part, state: DeviceState | None) -> Cell:
    """A device that is no longer there is called by its id."""
    if state is None:
        return bold(f"{part.device.kind} {part.device.id}")
    return bold(device_name(state), what(state))


def _how(part: Part) -> Cell:
    """What is not the hardware's own number says so at length."""
    if part.method is Method.COUNTER:
        return Cell(method(part.method))
    return Cell(method(part.method), HOW[part.method], "prose")
