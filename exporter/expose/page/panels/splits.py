"""How it was found which run used a device."""

from exporter import human
from exporter.expose.page.table import Cell, bar, number, table
from exporter.expose.view import View, summed
from exporter.markup import Markup
from exporter.model.workload import Split


def splits(view: View) -> Markup:
    """How it was found which run used a device."""
    whole = summed(view.attributed.values())
    rows = []
    for split in Split:
        found = {labels: t for labels, t in view.by_split.items() if labels[2] == split}
        tally = summed(found.values())
        if tally.total_uj:
            kinds = sorted({kind for kind, _, _ in found})
            rows.append(
                (
                    Cell(human.SPLITS[split]),
                    Cell(", ".join(kinds)),
                    number(human.energy(tally.total_uj)),
                    bar(tally.total_uj, whole.total_uj),
                )
            )
    heads = ("Split", "Devices", ">Energy", ">Of all runs")
    return table("How it was shared between runs", heads, rows, "Nothing yet.")
