"""A record for people: the receipt of a run, and the one line shown while it runs."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from exporter import formatting, units
from exporter.model.runs import REPLAY
from exporter.report import budget, inner, quantities, records
from exporter.report.document import Document, Section, Table

Record = Mapping[str, Any]
SHOWN_NODES = 8
SLURM = "slurm"
UNSEEN_SECONDS = 60.0
UNSEEN = (
    "processors and memory: the job has no cgroup and no visible process, see Without cgroups in "
    "deploy/slurm/README.md"
)
METHOD_DESCRIPTIONS = {
    "counter": "measured by the hardware's own counter",
    "integrated": "measured power, integrated",
    "estimated": "estimated",
}
REPLAYED = "played back from a recording, not measured"


def method_text(record: Record, method: str) -> str:
    """How an energy of the record is known; a method that a newer daemon knows is its name."""
    return REPLAYED if is_replay(record) else METHOD_DESCRIPTIONS.get(method, method)


def is_replay(record: Record) -> bool:
    """Whether it is of a recorded host that was played back."""
    return record.get("origin") == REPLAY


def receipt(record: Record) -> str:
    """Several lines: what was used, how that is known, and by which intensity it became grams."""
    named = f", {record['name']}" if is_named(record) else ""
    in_job = f" (job {record['job_id']})" if record["job_id"] else ""
    kind = "Runs:" if record.get("runs", 1) > 1 else "Run"
    title = f"{kind} {record['run_id']}{named}{in_job}"
    so_far = ", still running" if is_running(record) else ""
    scale = energy_scale(record)
    rows = [
        *_owner(record),
        ("took", formatting.duration(record["duration_seconds"]) + so_far),
        *(_unseen(record, scale) if is_unseen(record) else _used(record, scale)),
        *_intensity_facts(record["intensity"], scale),
        *mean_intensity_facts(record),
        *records.group_facts(record),
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
    """Whose a job is; the runs of other origins are those of whom asks."""
    account = record.get("account")
    if record.get("origin") != SLURM and not account:
        return []
    return [("owner", f"{record['user']}{f', account {account}' if account else ''}")]


def is_unseen(record: Record) -> bool:
    """Whether no cgroup and no process of a Slurm job was visible: its 0 J are no measurement.

    A job that is seen has memory at least, and used CPU time when it began.
    """
    return (
        record.get("origin") == SLURM
        and record["duration_seconds"] >= UNSEEN_SECONDS
        and bool(_of_machine(record))
        and not any(part["energy_uj"] for part in _of_machine(record))
    )


def _of_machine(record: Record) -> list[Record]:
    """The parts that need a cgroup or a process to be attributed."""
    return [part for part in record["parts"] if part["device"] != "gpu"]


def _used(record: Record, scale: formatting.DisplayUnit) -> list[tuple[str, str]]:
    return [
        ("energy", energy_text(record["energy_uj"], scale)),
        ("emitted", f"{formatting.carbon(record['carbon_ng'])} CO2eq"),
        *inner.rows(record),
        *budget.rows(record),
        *_device_facts(record),
    ]


def _unseen(record: Record, scale: formatting.DisplayUnit) -> list[tuple[str, str]]:
    """What is known of a job that is not seen: the GPUs that it held."""
    gpus = [part for part in record["parts"] if part["device"] == "gpu"]
    known = _used({**record, "parts": gpus}, scale) if gpus else [("energy", "unknown")]
    return [*known, ("unknown", UNSEEN)]


def is_running(record: Record) -> bool:
    """Whether no end is known, and no node has lost sight of it."""
    return record["ended"] is None and not (record.get("boundary") or {}).get("nodes_lost")


def is_named(record: Record) -> bool:
    """Whether it was given a name for people, besides its id."""
    return record.get("name") not in (None, "", record["run_id"])


def _boundary_text(record: Record) -> str:
    """What the energy is that of, and what it is not."""
    kinds = sorted({part["device"] for part in record["parts"]})
    node = "nodes" if len(record["node"].split(", ")) > 1 else "node"
    told = "; as CodeCarbon told, memory by its model" if _is_imported(record) else ""
    return f"{', '.join(kinds) or 'nothing'} of the {node}; not network, disks, fans{told}"


def _is_imported(record: Record) -> bool:
    """Whether some of it is history of another tool."""
    return any(part["id"] == "codecarbon" for part in record["parts"])


def where_seen(record: Record) -> list[tuple[str, str]]:
    """Where the run was seen; and in Prometheus, what may be missing."""
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
            ("lost", _list_nodes(boundary["nodes_lost"]) + ": no longer seen, and no end known")
        )
    since = formatting.timestamp(boundary["since"])
    rows.append(("read from", f"Prometheus, since {since}; a lower bound if a node lost power"))
    return rows


def _list_nodes(nodes: Sequence[str]) -> str:
    """Nodes, the first of them by name."""
    shown = ", ".join(nodes[:SHOWN_NODES]) + (", ..." if len(nodes) > SHOWN_NODES else "")
    return f"node {shown}" if len(nodes) == 1 else f"{len(nodes)} nodes: {shown}"


def _nodes_text(record: Record) -> str:
    """Which of the run's nodes this is the record of."""
    nodes = record.get("nodes") or 1
    here = len(record["node"].split(", "))
    seen = f"node {record['node']}"
    return seen if nodes <= here else f"{seen}: {here} of the run's {nodes} nodes"


def _unit_facts(record: Record) -> list[tuple[str, str]]:
    """What the run counted, and what each costs."""
    return [
        (
            name,
            (
                f"{formatting.number(amount)}, "
                f"{formatting.carbon(record['carbon_ng'] / amount)} CO2eq each"
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
    """What an open run will come to."""
    ahead = record.get("forecast")
    return [("at its end", f"in {_forecast_text(ahead, record['at'])} CO2eq")] if ahead else []


def status_line(record: Record) -> str:
    """One line for a terminal."""
    power = record.get("power_watts")
    ahead = record.get("forecast")
    used = energy_text(record["energy_uj"], energy_scale(record))
    called = record["name"] if is_named(record) else record["run_id"]
    return formatting.printable(
        f"{called}  {formatting.duration(record['duration_seconds'])}  {formatting.watts(power)}  "
        f"{used}  {formatting.carbon(record['carbon_ng'])} CO2eq"
        + (f"  in {_forecast_text(ahead, record['at'])}" if ahead else "")
    )


def _forecast_text(forecast: Record, now: float) -> str:
    """How long the work still takes, what it will come to, and the range of that."""
    rest = formatting.duration(max(0.0, forecast["end"] - now))
    ends = [end for end in (forecast.get("low"), forecast.get("high")) if end]
    amounts_ng = [each["carbon_grams"] * units.NANOGRAMS_PER_GRAM for each in (forecast, *ends)]
    scale = formatting.carbon_scale(amounts_ng)
    likely, *wide = map(scale.text, amounts_ng)
    return f"{rest}: {likely}" + (f" ({' to '.join(wide)})" if len(wide) > 1 else "")


def energy_scale(record: Record) -> formatting.DisplayUnit:
    """Unit for the energy of a record and for those of its parts."""
    return formatting.energy_scale((record["energy_uj"],))


def energy_text(energy_uj: int, scale: formatting.DisplayUnit) -> str:
    """Joules, and the watt hours that they are."""
    return f"{formatting.number(units.joules(energy_uj))} J ({scale.text(energy_uj)})"


def _device_facts(record: Record) -> list[tuple[str, str]]:
    """Energy per kind of device, method and split; GPUs are named, or counted."""
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
    """How it was got and split; Prometheus does not say it of runs."""
    return [*([how] if how else []), *([_split_text(split)] if split else [])]


def _gpu_text(device: str, ids: Collection[str]) -> str:
    """Which GPUs; of processors, memory and history nobody says which were used."""
    if device != "gpu" or "codecarbon" in ids:
        return ""
    return f" of {next(iter(ids))}" if len(ids) == 1 else f" of {len(ids)} GPUs"


def _split_text(split: str) -> str:
    """A split that a newer daemon knows is called by its name."""
    return formatting.SPLIT_DESCRIPTIONS.get(split) or f"split by {split.replace('_', ' ')}"


def mean_intensity_facts(record: Record) -> list[tuple[str, str]]:
    """In Prometheus: what all of it comes to, and what the nodes then said was in force."""
    if "boundary" not in record or not record["energy_uj"]:
        return []
    mean = record["carbon_grams"] / units.kwh(record["energy_uj"])
    said = {
        f"{g.get('grid_zone', '')}, {g.get('basis', '')}; {g.get('source', '')}"
        for g in record["boundary"]["grids"]
    }
    return [
        (
            "intensity",
            "; ".join(
                [f"{formatting.number(mean)} g/kWh in the mean, PUE included", *sorted(said)]
            ),
        )
    ]


def _intensity_facts(
    uses: Iterable[Record], scale: formatting.DisplayUnit
) -> list[tuple[str, str]]:
    lines = []
    for use in uses:
        if use["zone"] is None:
            lines.append(
                ("no factor", f"{energy_text(use['energy_uj'], scale)} wait for an intensity")
            )
            continue
        pue = f", PUE {use['pue']:g}" if use["pue"] != 1 else ""
        average = " (average of the world)" if use["zone"] == quantities.WORLD else ""
        value = f"{use['grams_per_kwh']:g} g/kWh, {use['zone']}{average}, {use['basis']}{pue}"
        lines.append(("intensity", f"{value}; {use['source']}"))
    return lines


def render_document(document: Document) -> str:
    """Aligned facts and columns; the title is left out."""
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
