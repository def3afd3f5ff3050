"""What was charged to no run."""

from exporter import human
from exporter.expose.page.table import bar, bold, number, table
from exporter.expose.view import View, summed
from exporter.markup import Markup
from exporter.model.workload import Reason

WHY = {
    Reason.IDLE: "what the hardware draws when nobody uses it",
    Reason.OTHER: "work that belongs to no run",
    Reason.UNALLOCATED: "devices that nobody holds",
    Reason.UNKNOWN_PROCESS: "processes whose owner could not be found",
    Reason.RESTART: "used while this exporter was not running",
}


def unattributed(view: View) -> Markup:
    """What was charged to no run, by reason, over all devices."""
    whole = summed(view.devices.values())
    tallies = {
        reason: summed(t for (_, _, of), t in view.unattributed.items() if of == reason)
        for reason in Reason
    }
    energy = human.energy_scale(tally.total_uj for tally in tallies.values())
    carbon = human.carbon_scale(tally.total_ng for tally in tallies.values())
    rows = [
        (
            bold(reason.replace("_", " "), WHY[reason]),
            number(human.watts(tally.power_watts)),
            number(energy.text(tally.total_uj)),
            number(carbon.text(tally.total_ng)),
            bar(tally.total_uj, whole.total_uj),
        )
        for reason, tally in tallies.items()
        if tally.total_uj
    ]
    heads = ("Reason", ">Power", ">Energy", ">Emissions", ">Of the machine")
    return table("Charged to no run", heads, rows, "Nothing yet.")
