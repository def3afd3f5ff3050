"""Derived quantities of a record, in the units of reports and other tools; pure functions.

Energies of records are those of the machine. Quantities with `facility` in their names include the
PUE.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from exporter import formatting, units
from exporter.model.record import UNSEEN_SECONDS
from exporter.model.runs import SLURM

Record = Mapping[str, Any]
WORLD = "WORLD"
"""Zone of energy that was converted with the world average."""
CODECARBON = "codecarbon"
"""Origin of imported runs."""
COUNT = re.compile(r"^(\d{1,4}) x ")
"""Number of GPUs of the first model; CodeCarbon joins models without a separator."""
ASSUMED_MODEL_SUFFIX = " (assumed"
"""Suffix of the model name of an estimated device."""
POWER_METRIC, INTENSITY_METRIC = "power_watts", "intensity_grams_per_kwh"
ALWAYS = ("energy_kwh", "emissions_grams", "mean_power_watts", "duration_seconds")
"""Quantities of `tracker_metrics` that every run has."""
NON_ADDITIVE = (POWER_METRIC, "mean_power_watts", INTENSITY_METRIC)
"""Quantities of `tracker_metrics` that cannot be summed."""


def energy_kwh(record: Record) -> float:
    """Return the energy of the machine in kWh."""
    return units.kwh(record["energy_uj"])


def facility_kwh(record: Record) -> float:
    """Return the energy of the facility in kWh: that of the machine multiplied by the PUE.

    The PUE of energy without a carbon intensity is unknown: this energy is added without a PUE.
    """
    added_uj = sum(
        use["energy_uj"] * (use["pue"] - 1)
        for use in record["intensity"]
        if use["zone"] is not None
    )
    return energy_kwh(record) + units.kwh(added_uj)


def unconverted_uj(record: Record) -> int:
    """Return the energy without a carbon intensity, in microjoules.

    A record without a list of intensities has grams for all of its energy, or for none.
    """
    if record["intensity"]:
        return sum(use["energy_uj"] for use in record["intensity"] if use.get("zone") is None)
    return 0 if record["carbon_ng"] else int(record["energy_uj"])


def unseen_runs(record: Record) -> int:
    """Return the number of Slurm jobs of which no cgroup and no process was visible.

    Energy of their processors and memory is unknown: 0 J is not a measurement. A visible job uses
    at least memory, and CPU time at its start.
    """
    if "unseen_runs" in record:
        return int(record["unseen_runs"])
    parts = [part for part in record["parts"] if part["device"] != "gpu"]
    return int(
        record.get("origin") == SLURM
        and record["duration_seconds"] >= UNSEEN_SECONDS
        and bool(parts)
        and not any(part["energy_uj"] for part in parts)
    )


def is_unseen(record: Record) -> bool:
    """Whether no energy is known: no run of the record was visible, and none held a GPU."""
    return not record["energy_uj"] and unseen_runs(record) >= record.get("runs", 1)


def energy_bound(record: Record) -> str:
    """Return "> " if the energy of a record is a lower bound, else ""."""
    return "> " if unseen_runs(record) else ""


def are_grams_unknown(record: Record) -> bool:
    """Whether there is energy, and none of it has a carbon intensity."""
    energy_uj = int(record["energy_uj"])
    return 0 < energy_uj <= unconverted_uj(record)


def carbon_grams(record: Record) -> float:
    """Return the emissions in grams of CO2 equivalent; nan if they are unknown."""
    return math.nan if are_grams_unknown(record) else units.grams(record["carbon_ng"])


def carbon_kg(record: Record) -> float:
    """Return the emissions in kilograms of CO2 equivalent; nan if they are unknown."""
    return carbon_grams(record) / units.GRAMS_PER_KG


def carbon_text(
    record: Record, carbon_ng: float | None = None, scale: formatting.DisplayUnit | None = None
) -> str:
    """Return the emissions of a record, or a part of them, as text.

    Unknown emissions are a dash, and incomplete ones a lower bound (`> 28.0 g`).
    """
    if are_grams_unknown(record) or is_unseen(record):
        return formatting.UNKNOWN
    amount_ng = record["carbon_ng"] if carbon_ng is None else carbon_ng
    bound = "> " if unconverted_uj(record) or unseen_runs(record) else ""
    return bound + (scale or formatting.carbon_scale((amount_ng,))).text(amount_ng)


def grams_per_kwh_with_pue(record: Record) -> float:
    """Return the emissions per kWh of the converted energy, PUE included; nan if unknown."""
    converted_uj = record["energy_uj"] - unconverted_uj(record)
    return carbon_grams(record) / units.kwh(converted_uj) if converted_uj > 0 else math.nan


def mean_watts(record: Record) -> float:
    """Return the mean power of the machine in watts; 0 for a duration of 0."""
    duration_seconds = record["duration_seconds"]
    return units.joules(record["energy_uj"]) / duration_seconds if duration_seconds > 0 else 0.0


def kwh_by_device(record: Record) -> dict[str, float]:
    """Return the energy of the machine in kWh by kind of device: cpu, dram, gpu."""
    sums: dict[str, int] = {}
    for part in record["parts"]:
        sums[part["device"]] = sums.get(part["device"], 0) + part["energy_uj"]
    return {kind: units.kwh(energy_uj) for kind, energy_uj in sums.items()}


def parts_used(record: Record) -> list[Record]:
    """Return the parts with energy, or all parts if none has any although its runs were visible."""
    used = [part for part in record["parts"] if part["energy_uj"]]
    return used if used or unseen_runs(record) else list(record["parts"])


def mean_pue(record: Record) -> float:
    """Return the energy-weighted mean PUE of the converted energy; 1 if none is known."""
    weighed = [
        (use["energy_uj"], use["pue"]) for use in record["intensity"] if use["zone"] is not None
    ]
    energy_uj = sum(weight for weight, _ in weighed)
    return sum(weight * each for weight, each in weighed) / energy_uj if energy_uj else 1.0


def mean_grams_per_kwh(record: Record) -> float:
    """Return the energy-weighted mean grid intensity without PUE; nan if none is known."""
    weighed = [
        (use["energy_uj"], use["grams_per_kwh"])
        for use in record["intensity"]
        if use["zone"] is not None
    ]
    energy_uj = sum(weight for weight, _ in weighed)
    return sum(weight * each for weight, each in weighed) / energy_uj if energy_uj else math.nan


def tracker_metrics(record: Record) -> dict[str, float]:
    """Return the metrics of a run for experiment trackers.

    Empty if the run is not measured, and before its first reading, when its energy is unknown
    rather than 0.
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
    """Whether an open run has no reading yet."""
    return record.get("ended", 0) is None and not record["energy_uj"]


def tracked_or_nan(record: Record) -> dict[str, float]:
    """Return `tracker_metrics`, with the names in `ALWAYS` as nan before the first reading."""
    is_early = bool(record) and is_unread(record)
    return dict.fromkeys(ALWAYS, math.nan) if is_early else tracker_metrics(record)


def run_fingerprint(record: Record) -> str:
    """Return a stable hash that identifies a run among the runs that an experiment sums up."""
    ids = json.dumps([record["run_id"], record["job_id"], record["node"]])
    return hashlib.sha256(ids.encode(errors="surrogatepass")).hexdigest()[:16]


def sum_metrics(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Sum the metrics of several runs as `tracker_metrics` returns them, without current power.

    Energies, grams and durations are added up. No run contains another's energy, so nothing is
    counted twice.
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
    """Return the grid zones used for conversion, the one with the most energy first."""
    sums: dict[str, int] = {}
    for use in record["intensity"]:
        if use["zone"] is not None:
            sums[use["zone"]] = sums.get(use["zone"], 0) + use["energy_uj"]
    return sorted(sums, key=lambda zone: -sums[zone])


def hardware_text(record: Record) -> str:
    """Return the hardware: the run's label, else models of GPUs and processors; "" if unknown.

    The models of an imported run are those in the file of the other tool.
    """
    stated = (record.get("labels") or {}).get("hardware_used")
    if stated:
        return str(stated)
    models: dict[str, set[tuple[str | None, str]]] = {}
    for part in sorted(record["parts"], key=lambda part: part["device"] != "gpu"):
        model = (part.get("model") or "").partition(ASSUMED_MODEL_SUFFIX)[0]
        if model and part["device"] != "dram":
            models.setdefault(model, set()).add((part.get("node"), part["id"]))
    counts = ((len(ids), model) for model, ids in models.items())
    known = ", ".join(f"{count} \u00d7 {model}" for count, model in counts)
    return known or _imported_hardware_text(record)


def imported_models(record: Record) -> tuple[str, str]:
    """Return the models of GPUs, with their counts, and of processors of an imported run.

    CodeCarbon writes them as `8 x NVIDIA A100`. "" for unknown models and for other runs.
    """
    labels = (record.get("labels") or {}) if record.get("origin") == CODECARBON else {}
    return str(labels.get("gpu_model", "")), str(labels.get("cpu_model", ""))


def imported_gpu_count(record: Record) -> int:
    """Return the number of GPUs of an imported run; 0 if it is unknown, and for other runs."""
    gpus = imported_models(record)[0]
    first = COUNT.match(gpus)
    return int(first[1]) if first and gpus.count(" x ") == 1 else 0


def _imported_hardware_text(record: Record) -> str:
    gpus, processor = imported_models(record)
    if not gpus:
        return f"CPU: {processor}" if processor else ""
    named = COUNT.sub("\\1 \u00d7 ", gpus)
    return f"{named}, {processor}" if processor else named
