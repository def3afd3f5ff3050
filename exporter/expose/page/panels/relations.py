"""The runs around a run, inside it and beside it."""

from exporter import human
from exporter.expose.page.panels.runs import called, id_beside_name
from exporter.expose.page.search import page_of
from exporter.expose.page.table import Cell, number, table
from exporter.markup import Markup, tag
from exporter.model.record import GROUP_LABEL
from exporter.model.runs import RunInfo
from exporter.model.snapshot import Snapshot, record_of

APART = "What an inner run used is not in the run around it."

AROUND, INSIDE = "around it", "inside it"
JOB, GROUP = "of the same job", "of the same group"
KINDS = (AROUND, INSIDE, JOB, GROUP)
SHOWN = 50
"""More than that nobody reads, and each costs a look at all lines of the books."""


def relations(run: RunInfo, snapshot: Snapshot, root: str) -> Markup:
    """Those on the page of the node, the closest first; nothing where there are none."""
    found = [
        (KINDS.index(how), other)
        for other in (*snapshot.runs, *snapshot.leaving)
        if (how := _relation(run, other))
    ]
    if not found:
        return Markup("")
    found.sort(key=lambda each: each[0])
    kinds = [KINDS[kind] for kind, _ in found[:SHOWN]]
    records = [record_of(snapshot, other) for _, other in found[:SHOWN]]
    energy = human.energy_scale(record.energy_uj for record in records)
    carbon = human.carbon_scale(record.carbon_ng for record in records)
    rows = [
        (
            Cell(_link(record.run, root), id_beside_name(record.run)),
            Cell(how),
            Cell(_state(record.run), class_=_state(record.run)),
            number(energy.text(record.energy_uj)),
            number(carbon.text(record.carbon_ng)),
        )
        for how, record in zip(kinds, records, strict=True)
    ]
    more = f" Shown are {SHOWN} of {len(found)}." if len(found) > SHOWN else ""
    heads = ("Run", "Relation", "State", ">Energy", ">Emissions")
    return table("Related runs", heads, rows, "", above=tag("p", APART + more))


def _relation(run: RunInfo, other: RunInfo) -> str:
    """What another run is to a run; "": nothing."""
    if other.key == run.key:
        return ""
    if other.key == run.enclosing:
        return AROUND
    if other.enclosing == run.key:
        return INSIDE
    if run.key.job_id and run.key.job_id == other.key.job_id:
        return JOB
    group = dict(run.labels).get(GROUP_LABEL)
    if group and group == dict(other.labels).get(GROUP_LABEL):
        return GROUP
    return ""


def _link(run: RunInfo, root: str) -> Markup:
    return tag("a", tag("bdi", called(run)), href=root + page_of(run.shown_id, run.key.job_id))


def _state(run: RunInfo) -> str:
    return "running" if run.ended is None else "ended"
