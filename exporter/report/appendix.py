"""A record as the appendix of a paper: what was used, how that is known, and what is not in it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from exporter import __version__, human, units
from exporter.report import budget, figures, group
from exporter.report.document import Document, Section, Table
from exporter.report.forms.text import (
    METHODS,
    energy,
    energy_scale,
    is_named,
    is_replay,
    mean_intensity,
    method_text,
    seen,
)

Record = Mapping[str, Any]
KINDS = {"cpu": "processors", "dram": "memory", "gpu": "GPUs"}
BOUNDS = {
    "counter": "what its maker states: for NVIDIA GPUs \u00b15 % of steady loads, for processors "
    "and memory no bound; the exporter adds none of its own",
    "integrated": "the sensor's: for NVIDIA GPUs \u00b15 W, more for loads in short bursts",
    "estimated": "no bound is stated by the source of the coefficients; it can be far off",
}
"""See docs/accuracy.md."""
UNKNOWN_METHOD = "not said by the metrics that this was read from"
NOT_STATED = "not stated"
STATED = {
    "geographical_location": "location",
    "training_type": "training type",
    "software": "software",
}
"""Labels of a run that say what nobody can measure; all but the last are a model card's names."""
OUTSIDE = "network, storage, fans, mainboard, losses of power supplies, making the hardware"


def appendix(record: Record) -> Document:
    """All that a reader needs to check the numbers, or to compare them with others."""
    return Document(
        f"Energy and emissions of {_title(record)}",
        _summary(record),
        (
            Section("What was used", tuple(_used(record))),
            *_of_group(record),
            Section("By component", table=_components(record)),
            Section("Carbon intensity", tuple(_grid(record)), _intensities(record)),
            Section("Method and bounds", tuple(_methods(record))),
            Section("Boundary", tuple(_boundary(record))),
            Section("Circumstances", tuple(_circumstances(record))),
        ),
    )


def _title(record: Record) -> str:
    """The name of the run, its id where it has none; several runs are already described."""
    if record.get("runs", 1) > 1 or "group" in record:
        return str(record["run_id"])
    if is_named(record):
        return f"run {record['name']} ({record['run_id']})"
    return f"run {record['run_id']}"


def _summary(record: Record) -> str:
    """One sentence that can be quoted."""
    what = "These runs" if record.get("runs", 1) > 1 else "This run"
    replayed = ", played back from a recording," if is_replay(record) else ""
    so_far = " so far" if record["ended"] is None else ""
    stated = record.get("labels") or {}
    hardware = figures.hardware(record)
    on = f" on {hardware}" if hardware else ""
    at = f" in {stated['geographical_location']}" if "geographical_location" in stated else ""
    return (
        f"{what}{replayed} used {human.energy(record['energy_uj'])} of electricity{on}{at} within "
        f"{human.duration(record['duration_seconds'])} and emitted "
        f"{human.carbon(record['carbon_ng'])} of CO2 equivalent{so_far}{_incomplete(record)}."
    )


def _incomplete(record: Record) -> str:
    waiting_uj = sum(use["energy_uj"] for use in record["intensity"] if use["zone"] is None)
    return f", without {human.energy(waiting_uj)} that wait for an intensity" if waiting_uj else ""


def _used(record: Record) -> Iterator[tuple[str, str]]:
    until = "until now" if record["ended"] is None else f"to {human.moment(record['ended'])}"
    stretch = f"from {human.moment(record['started'])} {until}, UTC"
    yield "duration", f"{human.duration(record['duration_seconds'])}, {stretch}"
    scale = energy_scale(record)
    yield "energy", energy(record["energy_uj"], scale)
    yield "active", energy(record["energy_uj"] - record["held_uj"], scale)
    yield (
        "held idle",
        f"{energy(record['held_uj'], scale)}: what devices held by it drew doing nothing",
    )
    if figures.pue(record) != 1:
        facility_uj = record["energy_uj"] * figures.pue(record)
        yield "with PUE", f"{scale.text(facility_uj)}: cooling and supply included"
    if record.get("runs", 1) == 1:
        yield "mean power", human.watts(figures.mean_watts(record))
    yield "emitted", f"{human.carbon(record['carbon_ng'])} CO2eq{_incomplete(record)}"
    yield from budget.rows(record)


def _of_group(record: Record) -> Iterator[Section]:
    facts = group.said(record)
    if facts:
        yield Section("Tuning", tuple(facts))


def _components(record: Record) -> Table:
    """A row for each kind of device, method and split; devices are counted."""
    sums: dict[tuple[Any, ...], list[Record]] = {}
    for part in figures.parts_used(record):
        sums.setdefault((part["device"], part["method"], part["split"]), []).append(part)
    in_energy, in_carbon = energy_scale(record), human.carbon_scale((record["carbon_ng"],))
    rows = [
        (
            _kind(kind, parts),
            in_energy.text(_total(parts, "energy_uj")),
            human.share(_total(parts, "energy_uj"), record["energy_uj"]),
            _held(parts, in_energy),
            in_carbon.text(_total(parts, "carbon_ng")),
            ", ".join(filter(None, (method and method_text(record, method), _split(split)))),
        )
        for (kind, method, split), parts in sorted(sums.items(), key=lambda item: str(item[0]))
    ]
    head = ("component", "energy", "share", "held idle", "CO2eq", "how it is known")
    return Table(head, tuple(rows), frozenset((1, 2, 3, 4)))


def _kind(kind: str, parts: Iterable[Record]) -> str:
    devices = {(part.get("node"), part["id"]) for part in parts}
    shown = KINDS.get(kind, kind)
    return f"{len(devices)} {shown}" if kind == "gpu" and len(devices) > 1 else shown


def _total(parts: Iterable[Record], name: str) -> int:
    return sum(part.get(name) or 0 for part in parts)


def _held(parts: Iterable[Record], scale: human.Scale) -> str:
    """Prometheus has only the sum of several GPUs of a node."""
    amounts = [part.get("held_uj") for part in parts]
    return human.UNKNOWN if None in amounts else scale.text(sum(filter(None, amounts)))


def _split(split: str | None) -> str:
    return human.SPLITS.get(split) or f"split by {split}" if split else ""


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


def _grid(record: Record) -> Iterator[tuple[str, str]]:
    yield from mean_intensity(record)
    if "boundary" not in record and record["carbon_ng"] and record["energy_uj"]:
        mean = units.grams(record["carbon_ng"]) / units.kwh(record["energy_uj"])
        yield "mean", f"{human.number(mean)} g/kWh, PUE included, weighted by energy"
    if not record["intensity"] and "boundary" not in record:
        yield "intensity", "none was known"


def _methods(record: Record) -> Iterator[tuple[str, str]]:
    parts = figures.parts_used(record)
    methods = {part["method"] for part in parts}
    if is_replay(record):
        yield "replay", "a recorded or made-up host was played back; nothing was measured"
        methods &= {None}
    for method, bound in BOUNDS.items():
        if method in methods:
            yield METHODS[method], bound
    if None in methods:
        yield "how it was got", UNKNOWN_METHOD
    splits = sorted({part["split"] for part in parts if part["split"]})
    if splits:
        yield "shares", "; ".join(map(_split, splits))


def _boundary(record: Record) -> Iterator[tuple[str, str]]:
    kinds = [KINDS.get(kind, kind) for kind in sorted(figures.kwh_by_device(record))]
    yield "counted", ", ".join(kinds) or "nothing"
    yield "not counted", OUTSIDE
    pue = figures.pue(record)
    cooling = f"only as the PUE of {pue:.4g}" if pue != 1 else "not counted: the PUE is 1"
    yield "cooling", cooling
    yield from seen(record)


def _circumstances(record: Record) -> Iterator[tuple[str, str]]:
    labels = record.get("labels") or {}
    yield "hardware", figures.hardware(record) or NOT_STATED
    for label, name in STATED.items():
        yield name, str(labels.get(label) or NOT_STATED)
    yield "grid", ", ".join(figures.zones(record)) or NOT_STATED
    name = f"{record['name']}, " if is_named(record) else ""
    yield "run", name + record["run_id"] + (f", job {record['job_id']}" if record["job_id"] else "")
    by = "played back by" if is_replay(record) else "measured by"
    yield by, f"emissions-exporter {__version__}, record version {record['version']}"
