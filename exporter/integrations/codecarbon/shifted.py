"""Rows with fewer cells than the header has names.

CodeCarbon 3.3.0 left out the columns that had no value at all, so that the cells after them stand
under the wrong names. Where only one way of putting them back makes sense, the row is mended. Where
several do that agree in the energy, only those cells are left empty in which they differ.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

from exporter.integrations.codecarbon.columns import (
    NEEDED,
    Cells,
    completed,
    energy_doubt,
    pue,
    wrong,
)

LEFT_OUT = (
    ("experiment_id",),
    ("country_name", "country_iso_code"),
    ("region",),
    ("cloud_provider", "cloud_region"),
    ("cpu_model",),
    ("gpu_count", "gpu_model"),
    ("gpu_model",),
    ("longitude", "latitude"),
)
"""Columns that may have had no value, each with those that have none if it has none."""


def mended(header: Sequence[str], cells: Sequence[str]) -> Cells | None:
    """The cells under their names; None where the energy cannot be proven."""
    sound = [
        made
        for made in map(completed, _possible(header, cells))
        if not energy_doubt(made) and pue(made) is not None
    ]
    found = [made for made in sound if not wrong(made)] or sound
    if len({tuple([made.get(name, "") for name in (*NEEDED, "pue")]) for made in found}) != 1:
        return None
    return {
        name: text if all(other[name] == text for other in found) else ""
        for name, text in found[0].items()
    }


def _possible(header: Sequence[str], cells: Sequence[str]) -> Iterator[Cells]:
    missing = len(header) - len(cells)
    for count in range(1, len(LEFT_OUT) + 1):
        for groups in combinations(LEFT_OUT, count):
            names = {name for group in groups for name in group if name in header}
            if len(names) == missing:
                filled = iter(cells)
                yield {name: "" if name in names else next(filled) for name in header}
