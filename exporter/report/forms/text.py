"""A record for people: the receipt of a run, and the one line shown while it runs."""

from collections.abc import Iterable, Mapping
from typing import Any

from exporter import human, units

Record = Mapping[str, Any]
METHODS = {
    "counter": "measured by the hardware's own counter",
    "integrated": "measured power, integrated",
    "estimated": "estimated",
}
SPLITS = {
    "exclusive": "held alone",
    "activity": "split by activity, good to 15 to 30 %",
    "slices": "split by slices held, which is an assumption",
    "equal": "split evenly, which is an assumption",
}
"""How a share was found; the others say it by their names."""


def receipt(record: Record) -> str:
    """Several lines: what was used, how that is known, and by which intensity it became grams."""
    title = f"Run {record['run_id']}" + (f" (job {record['job_id']})" if record["job_id"] else "")
    rows = [
        ("took", human.duration(record["duration_seconds"])),
        ("energy", energy(record["energy_uj"])),
        ("emitted", f"{human.carbon(record['carbon_ng'])} CO2eq"),
        *_parts(record["parts"]),
        *_intensities(record["intensity"]),
        ("seen on", f"node {record['node']}"),
    ]
    if record["held_uj"]:
        rows.insert(2, ("held idle", energy(record["held_uj"])))
    width = max(len(name) for name, _ in rows)
    lines = [title, *(f"  {name:<{width}}  {text}" for name, text in rows)]
    return "\n".join(human.printable(line) for line in lines)


def status_line(record: Record) -> str:
    """One line for a terminal."""
    power = record.get("power_watts")
    return human.printable(
        f"{record['run_id']}  {human.duration(record['duration_seconds'])}  {human.watts(power)}  "
        f"{energy(record['energy_uj'])}  {human.carbon(record['carbon_ng'])} CO2eq"
    )


def energy(energy_uj: int) -> str:
    """Joules, and the watt hours that they are."""
    return f"{human.number(units.joules(energy_uj))} J ({human.energy(energy_uj)})"


def _parts(parts: Iterable[Record]) -> list[tuple[str, str]]:
    """Energy per kind of device and method."""
    sums: dict[tuple[str, str, str], int] = {}
    for part in parts:
        key = part["device"], part["method"], part["split"]
        sums[key] = sums.get(key, 0) + part["energy_uj"]
    return [
        (device, f"{energy(uj)}, {METHODS[method]}, {_split(split)}")
        for (device, method, split), uj in sums.items()
    ]


def _split(split: str) -> str:
    return SPLITS.get(split) or f"split by {split.replace('_', ' ')}"


def _intensities(uses: Iterable[Record]) -> list[tuple[str, str]]:
    lines = []
    for use in uses:
        if use["zone"] is None:
            lines.append(("no factor", f"{energy(use['energy_uj'])} wait for an intensity"))
            continue
        pue = f", PUE {use['pue']:g}" if use["pue"] != 1 else ""
        value = f"{use['grams_per_kwh']:g} g/kWh, {use['zone']}, {use['basis']}{pue}"
        lines.append(("intensity", f"{value}; {use['source']}"))
    return lines
