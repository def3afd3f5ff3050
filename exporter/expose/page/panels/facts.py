"""Whose a run is, how it became known, and where what is counted ends."""

from collections.abc import Iterable
from urllib.parse import urlencode

from exporter import human
from exporter.markup import Markup, tag, together
from exporter.model.record import RunRecord
from exporter.model.runs import HISTORY
from exporter.model.snapshot import Snapshot

NOT_COUNTED = "not network, disks, fans, or losses of the power supply"
SCOPES = {
    "tree": "its process and all that descend from it",
    "cgroup": "all processes of its cgroup",
    "machine": "all of the machine",
}


def facts(record: RunRecord, snapshot: Snapshot, root: str) -> Markup:
    """What is known of a run that is no number."""
    run = record.run
    members = snapshot.members.get(run.key, ())
    rows = [
        ("Counted", _boundary(record)),
        ("Seen on", _nodes(record)),
        ("Belongs to it", f"{SCOPES.get(run.scope, run.scope)}; known by: {run.origin}"),
        ("Job", _searched(run.key.job_id, root)),
        ("User", run.user),
        ("Account", run.account),
        ("Namespace", run.namespace),
        ("Pods", ", ".join("/".join(filter(None, member)) for member in members)),
        ("Labels", together(*_labels(run.labels, root))),
        ("Inside of", run.enclosing.run_id if run.enclosing else ""),
        ("Began", f"{human.moment(run.started)} UTC"),
        ("Ended", _end(record)),
    ]
    pairs = [tag("div", tag("dt", name), tag("dd", text)) for name, text in rows if text]
    return tag("section", tag("h2", "About it"), tag("dl", *pairs))


def _boundary(record: RunRecord) -> str:
    kinds = sorted({part.device.kind for part in record.parts})
    told = f"; as {record.run.origin} told" if record.run.key.uid == HISTORY else ""
    return f"{', '.join(kinds) or 'nothing yet'}; {NOT_COUNTED}{told}"


def _nodes(record: RunRecord) -> str:
    if record.run.nodes <= 1:
        return f"node {record.node}"
    return f"node {record.node}, 1 of its {record.run.nodes} nodes; the others have their own page"


def _labels(labels: Iterable[tuple[str, str]], root: str) -> list[str]:
    found: list[str] = []
    for name, value in labels:
        found += (", " if found else "", _searched(f"{name}={value}", root))
    return found


def _searched(text: str, root: str) -> str:
    """A text that leads to all runs that have it."""
    query = urlencode({"q": text}, errors="replace")
    return tag("a", tag("bdi", text), href=f"{root}runs?{query}") if text else ""


def _end(record: RunRecord) -> str:
    run = record.run
    if run.ended is None:
        return ""
    why = f", {run.end_reason}" if run.end_reason else ""
    return f"{human.moment(run.ended)} UTC{why}"
