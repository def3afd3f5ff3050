"""Record as plain text: the receipt of a run, the status line, and documents."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from exporter import formatting, units
from exporter.model.runs import REPLAY, SLURM
from exporter.report import budget, group, inner, quantities
from exporter.report.document import Document, Section, Table

Record = Mapping[str, Any]
SHOWN_NODES = 8
UNSEEN = "no cgroup and no visible process; see Without cgroups in deploy/slurm/README.md"
METHOD_DESCRIPTIONS = {
    "counter": "read from a hardware counter",
    "integrated": "integrated from measured power",
    "estimated": "estimated",
}
REPLAYED = "replayed from a recording, not measured"


def method_text(record: Record, method: str) -> str:
    """Return the description of a measurement method; unknown methods are shown by name."""
    return REPLAYED if is_replay(record) else METHOD_DESCRIPTIONS.get(method, method)


def is_replay(record: Record) -> bool:
    """Whether the record comes from the replay of a recorded host."""
    return record.get("origin") == REPLAY


def receipt(record: Record) -> str:
    """Return the receipt: usage, methods and carbon intensities, one per line."""
    named = f", {record['name']}" if is_named(record) else ""
    in_job = f" (job {record['job_id']})" if record["job_id"] else ""
    kind = "Runs:" if record.get("runs", 1) > 1 else "Run"
    title = f"{kind} {record['run_id']}{named}{in_job}"
    so_far = ", still running" if is_running(record) else ""
    scale = energy_scale(record)
    rows = [
        *_owner(record),
        ("took", duration_text(record) + so_far),
        *_used(record, scale),
        *_intensity_facts(record["intensity"], scale),
        *mean_intensity_facts(record),
        *group.group_facts(record),
        *_unit_facts(record),
        *_logged_facts(record),
        *_forecast_facts(record),
        ("counted", _boundary_text(record)),
        *where_seen(record),
    ]
    if record["held_uj"]:
        place = next(i for i, (name, _) in enumerate(rows) if name == "energy")
        rows.insert(place + 1, ("held idle", energy_text(record["held_uj"], scale)))
    width = max(len(name) for name, _ in rows)
    lines = [title, *(f"  {name:<{width}}  {text}" for name, text in rows)]
    return "\n".join(formatting.printable(line) for line in lines)


def _owner(record: Record) -> list[tuple[str, str]]:
    """Return user and account of a job; runs of other origins belong to the user who asks."""
    account = record.get("account")
    if record.get("origin") != SLURM and not account:
        return []
    owner = [record.get("user"), f"account {account}" if account else ""]
    return [("owner", text)] if (text := ", ".join(filter(None, owner))) else []


def _used(record: Record, scale: formatting.DisplayUnit) -> list[tuple[str, str]]:
    return [
        ("energy", used_text(record, scale)),
        ("emitted", emitted_text(record)),
        *unseen_facts(record),
        *inner.rows(record),
        *budget.rows(record),
        *_device_facts(record),
    ]


def used_text(record: Record, scale: formatting.DisplayUnit) -> str:
    """Return the energy of a record as text, also if it is unknown or a lower bound."""
    if quantities.is_unseen(record):
        return "unknown"
    return quantities.energy_bound(record) + energy_text(record["energy_uj"], scale)


def emitted_text(record: Record) -> str:
    """Return the emissions as text, also if they are unknown."""
    if quantities.is_unseen(record):
        return "unknown"
    if quantities.are_grams_unknown(record):
        return f"{formatting.UNKNOWN}, unknown: the energy has no carbon intensity"
    return f"{quantities.carbon_text(record)} CO2eq"


def duration_text(record: Record) -> str:
    """Return the duration; of several runs, also the sum of their durations."""
    took = formatting.duration(record["duration_seconds"])
    if record.get("runs", 1) == 1 or "run_seconds" not in record:
        return took
    return (
        f"{formatting.duration(record['run_seconds'])} in total, within {took} from the first "
        "start to the last end"
    )


def unseen_facts(record: Record) -> list[tuple[str, str]]:
    """Return how many jobs were not visible, and of what the energy is unknown; empty if none."""
    count, runs = quantities.unseen_runs(record), record.get("runs", 1)
    if not count:
        return []
    of = "" if runs == 1 else f" of {count} of the {runs} runs"
    return [("unknown", f"processors and memory{of}: {UNSEEN}")]


def is_running(record: Record) -> bool:
    """Whether the run has no known end and is not lost on any node."""
    return record["ended"] is None and not (record.get("boundary") or {}).get("nodes_lost")


def is_named(record: Record) -> bool:
    """Whether it has a display name that differs from its id."""
    return record.get("name") not in (None, "", record["run_id"])


def _boundary_text(record: Record) -> str:
    """Return which devices are counted and which are not."""
    kinds = sorted({part["device"] for part in record["parts"]})
    node = "nodes" if len(record["node"].split(", ")) > 1 else "node"
    imported = "; as CodeCarbon reported, memory by its model" if _is_imported(record) else ""
    return f"{', '.join(kinds) or 'nothing'} of the {node}; not network, disks, fans{imported}"


def _is_imported(record: Record) -> bool:
    """Whether a part was imported from another tool."""
    return any(part["id"] == "codecarbon" for part in record["parts"])


def where_seen(record: Record) -> list[tuple[str, str]]:
    """Return the nodes of the run; for records from Prometheus, also what may be missing."""
    boundary = record.get("boundary")
    if boundary is None:
        return [("seen on", _nodes_text(record))]
    rows = [
        ("seen on", _list_nodes(boundary["nodes"]) + "; Prometheus does not know the run's nodes")
    ]
    if boundary["nodes_running"]:
        rows.append(("running", "on " + _list_nodes(boundary["nodes_running"])))
    if boundary["nodes_lost"]:
        rows.append(
            ("lost", _list_nodes(boundary["nodes_lost"]) + ": no longer scraped, end unknown")
        )
    since = formatting.timestamp(boundary["since"])
    rows.append(("read from", f"Prometheus, since {since}; a lower bound if a node lost power"))
    return rows


def _list_nodes(nodes: Sequence[str]) -> str:
    """Return the number of nodes and the names of the first ones."""
    shown = ", ".join(nodes[:SHOWN_NODES]) + (", ..." if len(nodes) > SHOWN_NODES else "")
    return f"node {shown}" if len(nodes) == 1 else f"{len(nodes)} nodes: {shown}"


def _nodes_text(record: Record) -> str:
    """Return the nodes of the record, and how many nodes the run has."""
    nodes = record.get("nodes") or 1
    here = len(record["node"].split(", "))
    seen = f"node {record['node']}"
    return seen if nodes <= here else f"{seen}: {here} of the run's {nodes} nodes"


def _unit_facts(record: Record) -> list[tuple[str, str]]:
    """Return the units counted by the run, and the emissions per unit."""
    return [
        (
            name,
            (
                f"{formatting.number(amount)}, "
                f"{quantities.carbon_text(record, record['carbon_ng'] / amount)} CO2eq each"
            ),
        )
        for name, amount in record.get("units", {}).items()
        if amount
    ]


def _logged_facts(record: Record) -> list[tuple[str, str]]:
    return [
        (name, value if isinstance(value, str) else formatting.result_value(value))
        for name, value in record.get("logged", {}).items()
    ]


def _forecast_facts(record: Record) -> list[tuple[str, str]]:
    """Return the forecast of an open run."""
    forecast = record.get("forecast")
    if not forecast:
        return []
    return [("at its end", f"in {_forecast_text(forecast, record['at'])} CO2eq")]


def status_line(record: Record) -> str:
    """Return the line that a terminal shows during the run."""
    power = record.get("power_watts")
    forecast = record.get("forecast")
    used = energy_text(record["energy_uj"], energy_scale(record))
    title = record["name"] if is_named(record) else record["run_id"]
    return formatting.printable(
        f"{title}  {formatting.duration(record['duration_seconds'])}  {formatting.watts(power)}  "
        f"{used}  {quantities.carbon_text(record)} CO2eq"
        + (f"  in {_forecast_text(forecast, record['at'])}" if forecast else "")
    )


def _forecast_text(forecast: Record, now: float) -> str:
    """Return remaining time, forecast emissions at the end, and their range."""
    rest = formatting.duration(max(0.0, forecast["end"] - now))
    ends = [end for end in (forecast.get("low"), forecast.get("high")) if end]
    amounts_ng = [each["carbon_grams"] * units.NANOGRAMS_PER_GRAM for each in (forecast, *ends)]
    scale = formatting.carbon_scale(amounts_ng)
    likely, *wide = map(scale.text, amounts_ng)
    return f"{rest}: {likely}" + (f" ({' to '.join(wide)})" if len(wide) > 1 else "")


def energy_scale(record: Record) -> formatting.DisplayUnit:
    """Return the display unit for the energies of a record and its parts."""
    return formatting.energy_scale((record["energy_uj"],))


def energy_text(energy_uj: int, scale: formatting.DisplayUnit) -> str:
    """Return an energy in joules and in watt hours."""
    return f"{formatting.number(units.joules(energy_uj))} J ({scale.text(energy_uj)})"


def _device_facts(record: Record) -> list[tuple[str, str]]:
    """Return the energy per kind of device, method and split; GPUs are named or counted."""
    scale = energy_scale(record)
    sums: dict[tuple[str, str | None, str | None], int] = {}
    ids: dict[tuple[str, str | None, str | None], set[str]] = {}
    for part in quantities.parts_used(record):
        how = method_text(record, part["method"]) if part["method"] else None
        key = part["device"], how, part["split"]
        sums[key] = sums.get(key, 0) + part["energy_uj"]
        ids.setdefault(key, set()).add(part["id"])
    return [
        (
            key[0],
            ", ".join(
                [
                    energy_text(energy_uj, scale) + _gpu_text(key[0], ids[key]),
                    *_provenance(key[1], key[2]),
                ]
            ),
        )
        for key, energy_uj in sums.items()
    ]


def _provenance(how: str | None, split: str | None) -> list[str]:
    """Return method and split; both are missing in records from Prometheus."""
    return [*([how] if how else []), *([_split_text(split)] if split else [])]


def _gpu_text(device: str, ids: Collection[str]) -> str:
    """Return which GPUs were used; "" for other devices and for imported history."""
    if device != "gpu" or "codecarbon" in ids:
        return ""
    return f" of {next(iter(ids))}" if len(ids) == 1 else f" of {len(ids)} GPUs"


def _split_text(split: str) -> str:
    """Return the description of a split; unknown splits are shown by name."""
    return formatting.SPLIT_DESCRIPTIONS.get(split) or f"split by {split.replace('_', ' ')}"


def mean_intensity_facts(record: Record) -> list[tuple[str, str]]:
    """Return the mean intensity of a record from Prometheus, and the intensities of its nodes."""
    if "boundary" not in record or not record["energy_uj"]:
        return []
    mean = quantities.grams_per_kwh_with_pue(record)
    average = (
        "unknown"
        if math.isnan(mean)
        else f"{formatting.number(mean)} g/kWh on average, PUE included"
    )
    grids = {
        f"{g.get('grid_zone', '')}, {g.get('basis', '')}; {g.get('source', '')}"
        for g in record["boundary"]["grids"]
    }
    return [
        (
            "intensity",
            "; ".join([average, *sorted(grids)]),
        )
    ]


def _intensity_facts(
    uses: Iterable[Record], scale: formatting.DisplayUnit
) -> list[tuple[str, str]]:
    lines = []
    for use in uses:
        if use["zone"] is None:
            lines.append(
                ("no factor", f"{energy_text(use['energy_uj'], scale)} without a carbon intensity")
            )
            continue
        pue = f", PUE {use['pue']:g}" if use["pue"] != 1 else ""
        average = " (world average)" if use["zone"] == quantities.WORLD else ""
        value = f"{use['grams_per_kwh']:g} g/kWh, {use['zone']}{average}, {use['basis']}{pue}"
        lines.append(("intensity", f"{value}; {use['source']}"))
    return lines


def render_document(document: Document) -> str:
    """Render a document with aligned facts and columns; the title is omitted."""
    lines = [document.summary]
    for section in document.sections:
        lines += ["", section.title, *_section(section)]
    return "\n".join(formatting.printable(line) for line in lines)


def _section(section: Section) -> Iterator[str]:
    width = max((len(name) for name, _ in section.facts), default=0)
    for name, text in section.facts:
        yield f"  {name:<{width}}  {text}"
    if section.table:
        yield from _table(section.table)
    for note in section.notes:
        yield f"  {note}"


def _table(table: Table) -> Iterator[str]:
    lines = (table.head, *table.rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for cells in lines:
        aligned = [
            cell.rjust(width) if column in table.numeric_columns else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        yield f"  {'  '.join(aligned)}".rstrip()
