"""What reports say of a record, in the units of other tools: pure functions of a record.

Energies of records are those of the machine; where a tool counts the whole facility its figure has
`facility` in its name, and the PUE of every part inside.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from exporter import units

Record = Mapping[str, Any]
WORLD = "WORLD"
"""Zone of energy that was converted with the average of the world."""
ASSUMED_MODEL_SUFFIX = " (assumed"
"""What the name of a device that is estimated goes on with."""
POWER_METRIC, INTENSITY_METRIC = "power_watts", "intensity_grams_per_kwh"
ALWAYS = ("energy_kwh", "emissions_grams", "mean_power_watts", "duration_seconds")
"""The figures of `tracked` that every run has."""
NON_ADDITIVE = (POWER_METRIC, "mean_power_watts", INTENSITY_METRIC)
"""Of the figures of `tracked`, those that cannot be added up."""


def energy_kwh(record: Record) -> float:
    """Energy of the machine."""
    return units.kwh(record["energy_uj"])


def facility_kwh(record: Record) -> float:
    """Energy with that of cooling and supply."""
    return energy_kwh(record) * mean_pue(record)


def carbon_grams(record: Record) -> float:
    """Grams of CO2 equivalent."""
    return units.grams(record["carbon_ng"])


def carbon_kg(record: Record) -> float:
    """Kilograms of CO2 equivalent."""
    return carbon_grams(record) / units.GRAMS_PER_KG


def mean_watts(record: Record) -> float:
    """Mean power of the machine over the run; 0 before any time went by."""
    duration_seconds = record["duration_seconds"]
    return units.joules(record["energy_uj"]) / duration_seconds if duration_seconds > 0 else 0.0


def kwh_by_device(record: Record) -> dict[str, float]:
    """Energy of the machine by kind of device: cpu, dram, gpu."""
    sums: dict[str, int] = {}
    for part in record["parts"]:
        sums[part["device"]] = sums.get(part["device"], 0) + part["energy_uj"]
    return {kind: units.kwh(energy_uj) for kind, energy_uj in sums.items()}


def parts_used(record: Record) -> list[Record]:
    """Its parts without those of no energy; all of them where none has any."""
    return [part for part in record["parts"] if part["energy_uj"]] or list(record["parts"])


def mean_pue(record: Record) -> float:
    """Mean power usage effectiveness, by energy; 1 where none is known."""
    weighed = [
        (use["energy_uj"], use["pue"]) for use in record["intensity"] if use["zone"] is not None
    ]
    energy_uj = sum(weight for weight, _ in weighed)
    return sum(weight * each for weight, each in weighed) / energy_uj if energy_uj else 1.0


def mean_grams_per_kwh(record: Record) -> float:
    """Mean intensity of the grid by energy, without PUE; nan where none is known."""
    weighed = [
        (use["energy_uj"], use["grams_per_kwh"])
        for use in record["intensity"]
        if use["zone"] is not None
    ]
    energy_uj = sum(weight for weight, _ in weighed)
    return sum(weight * each for weight, each in weighed) / energy_uj if energy_uj else math.nan


def tracker_metrics(record: Record) -> dict[str, float]:
    """What trackers of experiments show of a run as it stands.

    Empty if nobody measured it, and for a run that has just begun: before the first reading its
    energy is not 0 but unknown.
    """
    if not record or is_unread(record):
        return {}
    found = {
        "energy_kwh": energy_kwh(record),
        "emissions_grams": carbon_grams(record),
        **{f"energy_{kind}_kwh": kwh for kind, kwh in kwh_by_device(record).items()},
        "mean_power_watts": mean_watts(record),
        INTENSITY_METRIC: mean_grams_per_kwh(record),
        "duration_seconds": float(record["duration_seconds"]),
    }
    if record.get(POWER_METRIC) is not None:
        found[POWER_METRIC] = float(record[POWER_METRIC])
    return {name: value for name, value in found.items() if math.isfinite(value)}


def is_unread(record: Record) -> bool:
    """Whether an open run was not read yet since it began."""
    return record.get("ended", 0) is None and not record["energy_uj"]


def tracked_or_nan(record: Record) -> dict[str, float]:
    """The same for programs that rely on the names: nan before the first reading."""
    is_early = bool(record) and is_unread(record)
    return dict.fromkeys(ALWAYS, math.nan) if is_early else tracker_metrics(record)


def run_fingerprint(record: Record) -> str:
    """What tells the runs apart whose figures one experiment sums up; stable while one goes on."""
    ids = json.dumps([record["run_id"], record["job_id"], record["node"]])
    return hashlib.sha256(ids.encode(errors="surrogatepass")).hexdigest()[:16]


def sum_metrics(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Figures as `tracked` gives them, of several runs together, without the power of now.

    Energies, grams and durations are added up. No run contains another, so nothing is double.
    """
    known = list(parts)
    sums: dict[str, float] = {}
    for part in known:
        for name, value in part.items():
            if name not in NON_ADDITIVE:
                sums[name] = sums.get(name, 0.0) + value
    if sums.get("duration_seconds"):
        joules = sums["energy_kwh"] * units.JOULES_PER_KWH
        sums["mean_power_watts"] = joules / sums["duration_seconds"]
    converted = [part for part in known if INTENSITY_METRIC in part]
    energy_kwh = sum(part["energy_kwh"] for part in converted)
    if energy_kwh:
        grams = sum(part["energy_kwh"] * part[INTENSITY_METRIC] for part in converted)
        sums[INTENSITY_METRIC] = grams / energy_kwh
    return sums


def zones_by_energy(record: Record) -> list[str]:
    """Zones of the grid whose intensity it was converted with, that of most energy first."""
    sums: dict[str, int] = {}
    for use in record["intensity"]:
        if use["zone"] is not None:
            sums[use["zone"]] = sums.get(use["zone"], 0) + use["energy_uj"]
    return sorted(sums, key=lambda zone: -sums[zone])


def hardware_text(record: Record) -> str:
    """What it ran on: as the run said, else the models of its GPUs and processors; "" unknown."""
    stated = (record.get("labels") or {}).get("hardware_used")
    if stated:
        return str(stated)
    models: dict[str, set[tuple[str | None, str]]] = {}
    for part in sorted(record["parts"], key=lambda part: part["device"] != "gpu"):
        model = part.get("model", "").partition(ASSUMED_MODEL_SUFFIX)[0]
        if model and part["device"] != "dram":
            models.setdefault(model, set()).add((part.get("node"), part["id"]))
    counts = ((len(ids), model) for model, ids in models.items())
    return ", ".join(f"{count} \u00d7 {model}" for count, model in counts)
