"""Record as the appendix of a paper: usage, methods with error bounds, and system boundary."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from exporter import __version__, formatting, units
from exporter.report import budget, group, inner, quantities
from exporter.report.document import Document, Section, Table
from exporter.report.forms.text import (
    METHOD_DESCRIPTIONS,
    duration_text,
    emitted_text,
    energy_scale,
    energy_text,
    is_named,
    is_replay,
    mean_intensity_facts,
    method_text,
    unseen_facts,
    used_text,
    where_seen,
)

Record = Mapping[str, Any]
DEVICE_KIND_NAMES = {"cpu": "processors", "dram": "memory", "gpu": "GPUs"}
METHOD_ERROR_BOUNDS = {
    "counter": "error stated by the vendor: for NVIDIA GPUs \u00b15 % at steady load, for "
    "processors and memory none stated; the exporter adds no error",
    "integrated": "error of the sensor: for NVIDIA GPUs \u00b15 W, more for loads in short bursts",
    "estimated": "the source of the coefficients states no error bound; the error can be large",
}
"""See docs/accuracy.md."""
UNKNOWN_METHOD = "not available in the metrics from which this was read"
NOT_STATED = "not stated"
STATED_LABELS = {
    "geographical_location": "location",
    "training_type": "training type",
    "software": "software",
}
"""Labels of a run with facts that cannot be measured, and their names in the appendix."""
NOT_COUNTED = "network, storage, fans, mainboard, losses of power supplies, making the hardware"


def appendix(record: Record) -> Document:
    """Return a document with everything needed to check the numbers or compare them with others."""
    return Document(
        f"Energy and emissions of {_title(record)}",
        _summary(record),
        (
            Section("Usage", tuple(_usage_facts(record))),
            *_group_sections(record),
            Section("By component", table=_components(record)),
            Section("Carbon intensity", tuple(_intensity_facts(record)), _intensities(record)),
            Section("Methods and error bounds", tuple(_method_facts(record))),
            Section("Boundary", tuple(_boundary_facts(record))),
            Section("Circumstances", tuple(_condition_facts(record))),
        ),
    )


def _title(record: Record) -> str:
    """Return the name and id of the run; records of several runs have a descriptive id."""
    if record.get("runs", 1) > 1 or "group" in record:
        return str(record["run_id"])
    if is_named(record):
        return f"run {record['name']} ({record['run_id']})"
    return f"run {record['run_id']}"


def _summary(record: Record) -> str:
    """Return one sentence that can be quoted."""
    what = "These runs" if record.get("runs", 1) > 1 else "This run"
    replayed = ", replayed from a recording," if is_replay(record) else ""
    so_far = " so far" if record["ended"] is None else ""
    stated = record.get("labels") or {}
    hardware = quantities.hardware_text(record)
    on = f" on {hardware}" if hardware else ""
    at = f" in {stated['geographical_location']}" if "geographical_location" in stated else ""
    return (
        f"{what}{replayed} used {_amount_text(record)} of electricity{on}{at} "
        f"within {formatting.duration(record['duration_seconds'])}{_summary_emissions(record)}"
        f"{so_far}{_unconverted_text(record)}.{inner.summary(record)}"
    )


def _amount_text(record: Record) -> str:
    if quantities.is_unseen(record):
        return "an unknown amount"
    return _at_least(record) + formatting.energy(record["energy_uj"])


def _at_least(record: Record) -> str:
    return "at least " if quantities.unseen_runs(record) else ""


def _summary_emissions(record: Record) -> str:
    if quantities.is_unseen(record):
        return ""
    if quantities.are_grams_unknown(record):
        return "; its emissions are unknown, because the energy has no carbon intensity"
    amount = formatting.carbon(record["carbon_ng"])
    return f" and emitted {_at_least(record)}{amount} of CO2 equivalent"


def _unconverted_text(record: Record) -> str:
    waiting_uj = quantities.unconverted_uj(record)
    if not waiting_uj or quantities.are_grams_unknown(record):
        return ""
    return f", excluding {formatting.energy(waiting_uj)} without a carbon intensity"


def _without_pue_text(record: Record) -> str:
    """Return how much energy has no PUE because it has no carbon intensity; "" if none."""
    waiting_uj = quantities.unconverted_uj(record)
    if not waiting_uj:
        return ""
    return f"; {formatting.energy(waiting_uj)} without a carbon intensity, counted without PUE"


def _emitted_text(record: Record) -> str:
    if quantities.are_grams_unknown(record) or quantities.unseen_runs(record):
        return emitted_text(record) + _unconverted_text(record)
    return f"{formatting.carbon(record['carbon_ng'])} CO2eq{_unconverted_text(record)}"


def _usage_facts(record: Record) -> Iterator[tuple[str, str]]:
    until = (
        "until now" if record["ended"] is None else f"to {formatting.timestamp(record['ended'])}"
    )
    period = f"from {formatting.timestamp(record['started'])} {until}, UTC"
    yield "duration", f"{duration_text(record)}, {period}"
    scale = energy_scale(record)
    yield "energy", used_text(record, scale)
    yield from unseen_facts(record)
    yield "active", energy_text(record["energy_uj"] - record["held_uj"], scale)
    yield (
        "held idle",
        f"{energy_text(record['held_uj'], scale)}: idle energy of devices held by the run",
    )
    if quantities.mean_pue(record) != 1:
        facility_uj = quantities.facility_kwh(record) * units.MICROJOULES_PER_KWH
        included = f"including cooling and power supply{_without_pue_text(record)}"
        yield "with PUE", f"{scale.text(facility_uj)}, {included}"
    if record.get("runs", 1) == 1:
        yield "mean power", formatting.watts(quantities.mean_watts(record))
    yield "emitted", _emitted_text(record)
    yield from inner.rows(record)
    yield from budget.rows(record)


def _group_sections(record: Record) -> Iterator[Section]:
    facts = group.group_facts(record)
    if facts:
        yield Section("Tuning", tuple(facts))


def _components(record: Record) -> Table:
    """Return a table with one row per kind of device, method and split."""
    sums: dict[tuple[Any, ...], list[Record]] = {}
    for part in quantities.parts_used(record):
        sums.setdefault((part["device"], part["method"], part["split"]), []).append(part)
    in_energy, in_carbon = energy_scale(record), formatting.carbon_scale((record["carbon_ng"],))
    rows = [
        (
            _component_name(kind, parts),
            in_energy.text(_sum_field(parts, "energy_uj")),
            formatting.percentage(_sum_field(parts, "energy_uj"), record["energy_uj"]),
            _held_idle_text(parts, in_energy),
            quantities.carbon_text(record, _sum_field(parts, "carbon_ng"), in_carbon),
            ", ".join(filter(None, (method and method_text(record, method), _split_text(split)))),
        )
        for (kind, method, split), parts in sorted(sums.items(), key=lambda item: str(item[0]))
    ]
    head = ("component", "energy", "share", "held idle", "CO2eq", "method")
    return Table(head, tuple(rows), frozenset((1, 2, 3, 4)))


def _component_name(kind: str, parts: Iterable[Record]) -> str:
    devices = {(part.get("node"), part["id"]) for part in parts}
    shown = DEVICE_KIND_NAMES.get(kind, kind)
    return f"{len(devices)} {shown}" if kind == "gpu" and len(devices) > 1 else shown


def _sum_field(parts: Iterable[Record], name: str) -> int:
    return sum(part.get(name) or 0 for part in parts)


def _held_idle_text(parts: Iterable[Record], scale: formatting.DisplayUnit) -> str:
    """Return the held idle energy; unknown for several GPUs of a node in Prometheus."""
    amounts = [part.get("held_uj") for part in parts]
    return formatting.UNKNOWN if None in amounts else scale.text(sum(filter(None, amounts)))


def _split_text(split: str | None) -> str:
    return formatting.SPLIT_DESCRIPTIONS.get(split) or f"split by {split}" if split else ""


def _intensities(record: Record) -> Table | None:
    scale = energy_scale(record)
    rows = [
        (
            use["zone"],
            f"{use['grams_per_kwh']:g}",
            f"{use['pue']:g}",
            scale.text(use["energy_uj"]),
            ", ".join(str(use[k]) for k in ("basis", "signal", "accounting") if use.get(k)),
            use["source"] + (" (estimated)" if use.get("estimated") else ""),
        )
        for use in record["intensity"]
        if use["zone"] is not None
    ]
    head = ("zone", "g/kWh", "PUE", "for", "kind", "source")
    return Table(head, tuple(rows), frozenset((1, 2, 3))) if rows else None


def _intensity_facts(record: Record) -> Iterator[tuple[str, str]]:
    yield from mean_intensity_facts(record)
    if "boundary" not in record and record["carbon_ng"] and record["energy_uj"]:
        mean = quantities.grams_per_kwh_with_pue(record)
        yield "mean", f"{formatting.number(mean)} g/kWh, PUE included, weighted by energy"
    if not record["intensity"] and "boundary" not in record:
        yield "intensity", "none available"


def _method_facts(record: Record) -> Iterator[tuple[str, str]]:
    parts = quantities.parts_used(record)
    methods = {part["method"] for part in parts}
    if is_replay(record):
        yield "replay", "a recorded or synthetic host was replayed; nothing was measured"
        methods &= {None}
    for method, bound in METHOD_ERROR_BOUNDS.items():
        if method in methods:
            yield METHOD_DESCRIPTIONS[method], bound
    if None in methods:
        yield "method", UNKNOWN_METHOD
    splits = sorted({part["split"] for part in parts if part["split"]})
    if splits:
        yield "shares", "; ".join(map(_split_text, splits))


def _boundary_facts(record: Record) -> Iterator[tuple[str, str]]:
    kinds = [DEVICE_KIND_NAMES.get(kind, kind) for kind in sorted(quantities.kwh_by_device(record))]
    yield "counted", ", ".join(kinds) or "nothing"
    yield "not counted", NOT_COUNTED
    pue = quantities.mean_pue(record)
    known = f"only as the PUE of {pue:.4g}{_without_pue_text(record)}"
    yield "cooling", known if pue != 1 else "not counted: the PUE is 1"
    yield from where_seen(record)


def _condition_facts(record: Record) -> Iterator[tuple[str, str]]:
    labels = record.get("labels") or {}
    yield "hardware", quantities.hardware_text(record) or NOT_STATED
    for label, name in STATED_LABELS.items():
        yield name, str(labels.get(label) or NOT_STATED)
    yield "grid", ", ".join(quantities.zones_by_energy(record)) or NOT_STATED
    name = f"{record['name']}, " if is_named(record) else ""
    yield "run", name + record["run_id"] + (f", job {record['job_id']}" if record["job_id"] else "")
    by = "replayed by" if is_replay(record) else "measured by"
    yield by, f"emissions-exporter {__version__}, record version {record['version']}"
