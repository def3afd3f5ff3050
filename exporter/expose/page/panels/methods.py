"""How much was measured and how much estimated."""

from exporter import human
from exporter.expose.page.panels.doubts import HOW, method
from exporter.expose.page.table import Cell, bar, number, table
from exporter.expose.view import View, summed
from exporter.markup import Markup
from exporter.model.readings import Method


def methods(view: View) -> Markup:
    """How much was measured and how much estimated."""
    whole = summed(view.devices.values())
    tallies = []
    for how in Method:
        found = {labels: t for labels, t in view.by_method.items() if labels[2] == how}
        kinds = sorted({kind for (kind, _, _), t in found.items() if t.total_uj})
        tallies.append((how, kinds, summed(found.values()).total_uj))
    energy = human.energy_scale(energy_uj for _, _, energy_uj in tallies)
    rows = [
        (
            Cell(method(how), HOW[how]),
            Cell(", ".join(kinds)),
            number(energy.text(energy_uj)),
            bar(energy_uj, whole.total_uj),
        )
        for how, kinds, energy_uj in tallies
        if energy_uj
    ]
    heads = ("Method", "Devices", ">Energy", ">Of the machine")
    return table("How the energy was got", heads, rows, "Nothing yet.")
