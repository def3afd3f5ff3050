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
    rows = []
    for part in sorted(record.parts, key=lambda part: -part.amount.energy_uj):
        amount = part.amount
        rows.append(
            (
                _device(part, states.get(part.device)),
                number(human.energy(amount.energy_uj)),
                number(human.energy(amount.energy_uj - amount.held_uj)),
                number(human.energy(amount.held_uj)),
                number(human.carbon(amount.carbon_ng)),
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
