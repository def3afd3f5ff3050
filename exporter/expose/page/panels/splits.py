"""How it was found which run used a device."""

from exporter import human
from exporter.expose.page.table import Cell, bar, number, table
from exporter.expose.view import View, summed
from exporter.markup import Markup
from exporter.model.workload import Split


def splits(view: View) -> Markup:
    """How it was found which run used a device."""
    whole = summed(view.attributed.values())
    tallies = []
    for split in Split:
        found = {labels: t for labels, t in view.by_split.items() if labels[2] == split}
        kinds = sorted({kind for kind, _, _ in found})
        tallies.append((split, kinds, summed(found.values()).total_uj))
    energy = human.energy_scale(energy_uj for _, _, energy_uj in tallies)
    rows = [
        (
            Cell(human.SPLITS[split]),
            Cell(", ".join(kinds)),
            number(energy.text(energy_uj)),
            bar(energy_uj, whole.total_uj),
        )
        for split, kinds, energy_uj in tallies
        if energy_uj
    ]
    heads = ("Split", "Devices", ">Energy", ">Of all runs")
    return table("How it was shared between runs", heads, rows, "Nothing yet.")
