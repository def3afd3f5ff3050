"""A record for people: the receipt of a run, and the one line shown while it runs."""

from collections.abc import Iterable, Mapping
from typing import Any

from exporter import units

Record = Mapping[str, Any]
METHODS = {
    "counter": "measured by the hardware's own counter",
    "integrated": "measured power, integrated",
    "estimated": "estimated",
}


def receipt(record: Record) -> str:
    """Several lines: what was used, how that is known, and by which intensity it became grams."""
    title = f"Run {record['run_id']}" + (f" (job {record['job_id']})" if record["job_id"] else "")
    rows = [
        ("took", duration(record["duration_seconds"])),
        ("energy", energy(record["energy_uj"])),
        ("emitted", f"{mass(record['carbon_ng'])} CO2eq"),
        *_parts(record["parts"]),
        *_intensities(record["intensity"]),
        ("seen on", f"node {record['node']}"),
    ]
    if record["held_uj"]:
        rows.insert(2, ("held idle", energy(record["held_uj"])))
    width = max(len(name) for name, _ in rows)
    return "\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in rows)])


def status_line(record: Record) -> str:
    """One line for a terminal."""
    power = record.get("power_watts")
    watts = f"{power:.1f} W" if power is not None else "- W"
    return (
        f"{record['run_id']}  {duration(record['duration_seconds'])}  {watts}  "
        f"{energy(record['energy_uj'])}  {mass(record['carbon_ng'])} CO2eq"
    )


def energy(energy_uj: int) -> str:
    """Joules, and watt hours or kilowatt hours where those are easier to grasp."""
    joules, kwh = units.joules(energy_uj), units.kwh(energy_uj)
    if joules < 1_000:
        return f"{joules:.4g} J"
    if kwh < 1:
        return f"{joules:,.0f} J ({kwh * 1_000:.3g} Wh)"
    return f"{joules:,.0f} J ({kwh:,.2f} kWh)"


def mass(carbon_ng: int) -> str:
    """Grams, or kilograms from one on."""
    grams = units.grams(carbon_ng)
    return f"{grams:.4g} g" if grams < 1_000 else f"{grams / 1_000:,.3f} kg"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {left:02d} s"


def _parts(parts: Iterable[Record]) -> list[tuple[str, str]]:
    """Energy per kind of device and method."""
    sums: dict[tuple[str, str, str], int] = {}
    for part in parts:
        key = part["device"], part["method"], part["split"]
        sums[key] = sums.get(key, 0) + part["energy_uj"]
    return [
        (device, f"{energy(uj)}, {METHODS[method]}, split by {split.replace('_', ' ')}")
        for (device, method, split), uj in sums.items()
    ]


def _intensities(uses: Iterable[Record]) -> list[tuple[str, str]]:
    lines = []
    for use in uses:
        if use["zone"] is None:
            lines.append(("intensity", f"none yet for {energy(use['energy_uj'])}"))
            continue
        pue = f", PUE {use['pue']:g}" if use["pue"] != 1 else ""
        lines.append(
            (
                "intensity",
                f"{use['grams_per_kwh']:g} g/kWh, {use['zone']}, {use['basis']}{pue}; "
                f"{use['source']}",
            )
        )
    return lines
