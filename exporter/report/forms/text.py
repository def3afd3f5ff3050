"""A record for people: the receipt of a run, and the one line shown while it runs."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from exporter import human, units
from exporter.model.runs import REPLAY
from exporter.report import budget, figures, group, inner

Record = Mapping[str, Any]
SHOWN_NODES = 8
SLURM = "slurm"
UNSEEN_SECONDS = 60.0
UNSEEN = (
    "processors and memory: the job has no cgroup and no visible process, see Without cgroups in "
    "deploy/slurm/README.md"
)
METHODS = {
    "counter": "measured by the hardware's own counter",
    "integrated": "measured power, integrated",
    "estimated": "estimated",
}
REPLAYED = "played back from a recording, not measured"


def method_text(record: Record, method: str) -> str:
    """How an energy of the record is known; a method that a newer daemon knows is its name."""
    return REPLAYED if is_replay(record) else METHODS.get(method, method)


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
        ("took", human.duration(record["duration_seconds"]) + so_far),
        *(_unseen(record, scale) if is_unseen(record) else _used(record, scale)),
        *_intensities(record["intensity"], scale),
        *mean_intensity(record),
        *group.said(record),
        *_counted(record),
        *_logged(record),
        *_forecast(record),
        ("counted", _boundary(record)),
        *seen(record),
    ]
    if record["held_uj"]:
        place = next(i for i, (name, _) in enumerate(rows) if name == "energy")
        rows.insert(place + 1, ("held idle", energy(record["held_uj"], scale)))
    width = max(len(name) for name, _ in rows)
    lines = [title, *(f"  {name:<{width}}  {text}" for name, text in rows)]
    return "\n".join(human.printable(line) for line in lines)


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


def _used(record: Record, scale: human.Scale) -> list[tuple[str, str]]:
    return [
        ("energy", energy(record["energy_uj"], scale)),
        ("emitted", f"{human.carbon(record['carbon_ng'])} CO2eq"),
        *inner.rows(record),
        *budget.rows(record),
        *_parts(record),
    ]


def _unseen(record: Record, scale: human.Scale) -> list[tuple[str, str]]:
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


def _boundary(record: Record) -> str:
    """What the energy is that of, and what it is not."""
    kinds = sorted({part["device"] for part in record["parts"]})
    node = "nodes" if len(record["node"].split(", ")) > 1 else "node"
    told = "; as CodeCarbon told, memory by its model" if _is_told(record) else ""
    return f"{', '.join(kinds) or 'nothing'} of the {node}; not network, disks, fans{told}"


def _is_told(record: Record) -> bool:
    """Whether some of it is history of another tool."""
    return any(part["id"] == "codecarbon" for part in record["parts"])


def seen(record: Record) -> list[tuple[str, str]]:
    """Where the run was seen; and in Prometheus, what may be missing."""
    boundary = record.get("boundary")
    if boundary is None:
        return [("seen on", _nodes(record))]
    rows = [("seen on", _some(boundary["nodes"]) + "; Prometheus does not know the run's nodes")]
    if boundary["nodes_running"]:
        rows.append(("running", "on " + _some(boundary["nodes_running"])))
    if boundary["nodes_lost"]:
        rows.append(("lost", _some(boundary["nodes_lost"]) + ": no longer seen, and no end known"))
    since = human.moment(boundary["since"])
    rows.append(("read from", f"Prometheus, since {since}; a lower bound if a node lost power"))
    return rows


def _some(nodes: Sequence[str]) -> str:
    """Nodes, the first of them by name."""
    shown = ", ".join(nodes[:SHOWN_NODES]) + (", ..." if len(nodes) > SHOWN_NODES else "")
    return f"node {shown}" if len(nodes) == 1 else f"{len(nodes)} nodes: {shown}"


def _nodes(record: Record) -> str:
    """Which of the run's nodes this is the record of."""
    nodes = record.get("nodes") or 1
    here = len(record["node"].split(", "))
    seen = f"node {record['node']}"
    return seen if nodes <= here else f"{seen}: {here} of the run's {nodes} nodes"


def _counted(record: Record) -> list[tuple[str, str]]:
    """What the run counted, and what each costs."""
    return [
        (
            name,
            f"{human.number(amount)}, {human.carbon(record['carbon_ng'] / amount)} CO2eq each",
        )
        for name, amount in record.get("units", {}).items()
        if amount
    ]


def _logged(record: Record) -> list[tuple[str, str]]:
    return [
        (name, value if isinstance(value, str) else human.told(value))
        for name, value in record.get("logged", {}).items()
    ]


def _forecast(record: Record) -> list[tuple[str, str]]:
    """What an open run will come to."""
    ahead = record.get("forecast")
    return [("at its end", f"in {_ahead(ahead, record['at'])} CO2eq")] if ahead else []


def status_line(record: Record) -> str:
    """One line for a terminal."""
    power = record.get("power_watts")
    ahead = record.get("forecast")
    used = energy(record["energy_uj"], energy_scale(record))
    called = record["name"] if is_named(record) else record["run_id"]
    return human.printable(
        f"{called}  {human.duration(record['duration_seconds'])}  {human.watts(power)}  "
        f"{used}  {human.carbon(record['carbon_ng'])} CO2eq"
        + (f"  in {_ahead(ahead, record['at'])}" if ahead else "")
    )


def _ahead(forecast: Record, now: float) -> str:
    """How long the work still takes, what it will come to, and the range of that."""
    rest = human.duration(max(0.0, forecast["end"] - now))
    ends = [end for end in (forecast.get("low"), forecast.get("high")) if end]
    amounts_ng = [each["carbon_grams"] * units.NANOGRAMS_PER_GRAM for each in (forecast, *ends)]
    scale = human.carbon_scale(amounts_ng)
    likely, *wide = map(scale.text, amounts_ng)
    return f"{rest}: {likely}" + (f" ({' to '.join(wide)})" if len(wide) > 1 else "")


def energy_scale(record: Record) -> human.Scale:
    """Unit for the energy of a record and for those of its parts."""
    return human.energy_scale((record["energy_uj"],))


def energy(energy_uj: int, scale: human.Scale) -> str:
    """Joules, and the watt hours that they are."""
    return f"{human.number(units.joules(energy_uj))} J ({scale.text(energy_uj)})"


def _parts(record: Record) -> list[tuple[str, str]]:
    """Energy per kind of device, method and split; GPUs are named, or counted."""
    scale = energy_scale(record)
    sums: dict[tuple[str, str | None, str | None], int] = {}
    ids: dict[tuple[str, str | None, str | None], set[str]] = {}
    for part in figures.parts_used(record):
        how = method_text(record, part["method"]) if part["method"] else None
        key = part["device"], how, part["split"]
        sums[key] = sums.get(key, 0) + part["energy_uj"]
        ids.setdefault(key, set()).add(part["id"])
    return [
        (
            key[0],
            ", ".join([energy(energy_uj, scale) + _of(key[0], ids[key]), *_known(key[1], key[2])]),
        )
        for key, energy_uj in sums.items()
    ]


def _known(how: str | None, split: str | None) -> list[str]:
    """How it was got and split; Prometheus does not say it of runs."""
    return [*([how] if how else []), *([_split(split)] if split else [])]


def _of(device: str, ids: Collection[str]) -> str:
    """Which GPUs; of processors, memory and history nobody says which were used."""
    if device != "gpu" or "codecarbon" in ids:
        return ""
    return f" of {next(iter(ids))}" if len(ids) == 1 else f" of {len(ids)} GPUs"


def _split(split: str) -> str:
    """A split that a newer daemon knows is called by its name."""
    return human.SPLITS.get(split) or f"split by {split.replace('_', ' ')}"


def mean_intensity(record: Record) -> list[tuple[str, str]]:
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
            "; ".join([f"{human.number(mean)} g/kWh in the mean, PUE included", *sorted(said)]),
        )
    ]


def _intensities(uses: Iterable[Record], scale: human.Scale) -> list[tuple[str, str]]:
    lines = []
    for use in uses:
        if use["zone"] is None:
            lines.append(("no factor", f"{energy(use['energy_uj'], scale)} wait for an intensity"))
            continue
        pue = f", PUE {use['pue']:g}" if use["pue"] != 1 else ""
        average = " (average of the world)" if use["zone"] == figures.WORLD else ""
        value = f"{use['grams_per_kwh']:g} g/kWh, {use['zone']}{average}, {use['basis']}{pue}"
        lines.append(("intensity", f"{value}; {use['source']}"))
    return lines
