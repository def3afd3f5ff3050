"""Facts of a record for a model card: the Hub's metadata, and the text section."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from exporter import __version__, formatting, units
from exporter.report import quantities
from exporter.report.card.amounts import plain_grams
from exporter.report.forms.text import method_text

Record = Mapping[str, Any]
SOURCE_NAME = "emissions-exporter"
TRAINING_TYPE = "training_type"
TRAINING_TYPES = ("pre-training", "fine-tuning")
LABELS = {
    "training_type": TRAINING_TYPE,
    "location": "geographical_location",
    "hardware": "hardware_used",
}
MAX_UNCONVERTED_SHARE = 0.01
ZONE = r"[A-Z]{2}(?:-[A-Z0-9]+)*"
DERIVED_VALUE = re.compile(rf"CPU(?:: .+)?|\d+ GPUs?|\d+ \u00d7 .+|{ZONE}(?:, {ZONE})*")
"""Pattern of derived values; stated values do not match it."""


class StatedFacts(NamedTuple):
    """Facts stated by the user, which a record does not contain; "" if not stated."""

    training_type: str = ""
    location: str = ""
    """Location, as exact as possible: Quebec, Canada."""
    hardware: str = ""
    """Number and kind of devices: 8 V100 GPUs."""
    provider: str = ""
    """Cloud provider, if any."""

    def with_labels(self, record: Record) -> "StatedFacts":
        """Fill missing facts from the labels of the run, which are named as in the metadata."""
        labels = record.get("labels") or {}
        stated = {name: str(labels.get(label, "")) for name, label in LABELS.items()}
        return self._replace(**{n: text for n, text in stated.items() if not getattr(self, n)})

    def labels(self) -> dict[str, str]:
        """Return the facts as labels of a run."""
        return {label: getattr(self, n) for n, label in LABELS.items() if getattr(self, n)}


NOTHING_STATED = StatedFacts()


class CardFact(NamedTuple):
    """A value; `is_stated` if it was stated by a person or measured, rather than derived."""

    text: str
    is_stated: bool = True

    def may_replace(self, there: Any) -> bool:
        """Whether it may replace the card's value; derived values replace only derived ones."""
        return self.is_stated or not there or DERIVED_VALUE.fullmatch(str(there)) is not None


def has_emissions(record: Record) -> bool:
    """Whether emissions are known for at least 99 % of the energy."""
    waiting_uj = quantities.unconverted_uj(record)
    return bool(record["carbon_ng"]) and waiting_uj <= MAX_UNCONVERTED_SHARE * float(
        record["energy_uj"]
    )


def metadata_facts(record: Record, stated: StatedFacts = NOTHING_STATED) -> dict[str, CardFact]:
    """Return the known keys of `co2_eq_emissions`; `emissions` is a number in grams."""
    stated = stated.with_labels(record)
    facts = {
        "emissions": CardFact(plain_grams(record["carbon_ng"])),
        "source": CardFact(_source_text(record)),
        TRAINING_TYPE: CardFact(stated.training_type),
        "geographical_location": _location_fact(record, stated),
        "hardware_used": _hardware_fact(record, stated),
    }
    return {name: fact for name, fact in facts.items() if fact.text}


def section_facts(record: Record, stated: StatedFacts = NOTHING_STATED) -> dict[str, CardFact]:
    """Return the lines of "Environmental Impact", those of the Hub's template first."""
    stated = stated.with_labels(record)
    seconds = record.get("run_seconds", record["duration_seconds"])  # of several runs, of one
    duration_hours = seconds / units.SECONDS_PER_HOUR
    facts = {
        "Hardware Type": _hardware_fact(record, stated),
        "Hours used": CardFact(
            f"{duration_hours:.4g}" if duration_hours < 1e4 else f"{duration_hours:.0f}"
        ),
        "Cloud Provider": CardFact(stated.provider),
        "Compute Region": _location_fact(record, stated),
        "Carbon Emitted": CardFact(_emissions_text(record)),
        "Runs": CardFact(_runs_text(record)),
        "Energy Used": CardFact(_energy_text(record)),
        "Carbon Intensity": CardFact("; ".join(_intensity_texts(record))),
        "Method": CardFact("; ".join(f"{kind} {how}" for kind, how in _methods_by_kind(record))),
        "Boundary": CardFact(_boundary_text(record)),
    }
    return {name: fact for name, fact in facts.items() if fact.text}


def _hardware_fact(record: Record, stated: StatedFacts) -> CardFact:
    """Return the hardware, or the number of GPUs if their models are unknown."""
    if stated.hardware:
        return CardFact(stated.hardware)
    gpus = {(part.get("node"), part["id"]) for part in record["parts"] if part["device"] == "gpu"}
    kinds = {part["device"] for part in record["parts"]}
    count = f"{len(gpus)} GPU{'s' if len(gpus) > 1 else ''}" if gpus else "CPU" if kinds else ""
    return CardFact(quantities.hardware_text(record) or count, is_stated=False)


def _location_fact(record: Record, stated: StatedFacts) -> CardFact:
    """Return the grid zones without the world average."""
    if stated.location:
        return CardFact(stated.location)
    known = [zone for zone in quantities.zones_by_energy(record) if zone != quantities.WORLD]
    return CardFact(", ".join(known), is_stated=False)


def _source_text(record: Record) -> str:
    how = ", ".join(sorted({how for _, how in _methods_by_kind(record)}))
    grids = ", ".join(
        dict.fromkeys(f"{use['source']} ({use['zone']})" for use in _converted_uses(record))
    )
    parts = [f"{SOURCE_NAME} {__version__}"]
    parts += [f"energy {how}"] if how else []
    parts += [f"intensity of {grids}"] if grids else []
    return formatting.printable("; ".join(parts))


def _emissions_text(record: Record) -> str:
    if not has_emissions(record):
        return _missing_emissions_text(record)
    grams = f"{plain_grams(record['carbon_ng'])} g CO2eq"
    has_kg = quantities.carbon_kg(record) >= 1
    return f"{grams} ({formatting.carbon(record['carbon_ng'])})" if has_kg else grams


def _missing_emissions_text(record: Record) -> str:
    """Return why the emissions are unknown, or that they are 0."""
    energy_uj, waiting_uj = record["energy_uj"], quantities.unconverted_uj(record)
    if not energy_uj:
        return "unknown: no energy was measured"
    if not waiting_uj:
        return "0 g CO2eq"
    scale = formatting.energy_scale((energy_uj,))
    bound = f", {quantities.carbon_text(record)} CO2eq" if record["carbon_ng"] else ""
    return (
        f"unknown{bound}: {scale.text(waiting_uj)} of {scale.text(energy_uj)} have no carbon "
        "intensity"
    )


def _runs_text(record: Record) -> str:
    """Return which runs the amounts include; "" for a single run."""
    added = []
    if more_tasks := record.get("more_tasks"):
        added.append(f"{more_tasks} other task{'s' if more_tasks > 1 else ''} of its tracker")
    if inner_runs := record.get("inner_runs"):
        added.append(f"{inner_runs} inner run{'s' if inner_runs > 1 else ''}")
    if added:
        hours = "; the hours are those of the run" if inner_runs and not more_tasks else ""
        what = " and ".join(added)
        return f"run {record['run_id']} with {what}, whose energy and emissions are included{hours}"
    if (group := record.get("group")) is not None:
        final = group["final"]
        named = f"{final['name']}, " if final.get("name") not in (None, "", final["run_id"]) else ""
        more = "" if group.get("complete", True) else ", which has more runs"
        return f"{group['runs']} of group {group['name']}{more}; final run {named}{final['run_id']}"
    return ""


def _energy_text(record: Record) -> str:
    """Return the energy in total, by kind of device where that is known, and held idle."""
    kinds: dict[str, int] = {}
    for part in record["parts"]:
        kinds[part["device"]] = kinds.get(part["device"], 0) + part["energy_uj"]
    scale = formatting.energy_scale((record["energy_uj"],))
    parts = [f"{kind} {scale.text(energy_uj)}" for kind, energy_uj in sorted(kinds.items())]
    text = quantities.energy_bound(record) + scale.text(record["energy_uj"])
    if sum(kinds.values()) == record["energy_uj"]:  # not with inner runs of older receipts
        text += f" ({', '.join(parts)})"
    return text + (f", {scale.text(record['held_uj'])} held idle" if record["held_uj"] else "")


def _intensity_texts(record: Record) -> list[str]:
    """Return the carbon intensities used; for records from Prometheus, their mean."""
    lines = [
        f"{use['grams_per_kwh']:g} g/kWh, {use['zone']}, {use['basis']}, PUE {use['pue']:g}, "
        f"{use['source']}"
        for use in _converted_uses(record)
    ]
    if not record["intensity"] and record["energy_uj"]:
        mean = quantities.grams_per_kwh_with_pue(record)
        lines += [] if math.isnan(mean) else [f"{mean:.4g} g/kWh on average, PUE included"]
    return lines


def _methods_by_kind(record: Record) -> list[tuple[str, str]]:
    """Return kinds of devices with their methods, which records from Prometheus do not have."""
    found = ((part["device"], part.get("method")) for part in record["parts"])
    methods = {(device, method) for device, method in found if method}
    return sorted((kind, method_text(record, method)) for kind, method in methods)


def _boundary_text(record: Record) -> str:
    kinds = ", ".join(sorted({part["device"] for part in record["parts"]})) or "nothing"
    seen = len(set(record["node"].split(", ")))
    nodes = record.get("nodes") or seen
    of = f"{seen} of {nodes} nodes" if nodes > seen else f"{seen} node{'s' if seen > 1 else ''}"
    unseen = quantities.unseen_runs(record)
    unknown = f"processors and memory of runs that were not visible ({unseen}), " if unseen else ""
    return f"{kinds} of {of}; without {unknown}network, storage and the manufacture of the hardware"


def _converted_uses(record: Record) -> list[Record]:
    return [use for use in record["intensity"] if use["zone"] is not None]
