"""Runs in a table, each with the way to its own page, and the field to search them."""

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, urlencode

from exporter import formatting, units
from exporter.expose.page.elements import (
    TableCell,
    estimated_energy,
    estimated_note,
    number_cell,
    table,
    unconverted_note,
    warning_note,
)
from exporter.expose.page.layout import HOME_ROOT, METRICS_PATH, page_document
from exporter.expose.page.power_history import PowerCharts
from exporter.expose.snapshot_view import SnapshotView
from exporter.html import Markup, concatenate, tag
from exporter.model.readings import Method
from exporter.model.record import GROUP_LABEL, RunRecord
from exporter.model.runs import RunInfo
from exporter.model.snapshot import Snapshot, record_of

MAX_QUERY_CHARACTERS = 200
DOT_SEGMENTS = (".", "..")
"""Names that a browser takes for a way, however they are spelled in a path."""


def split_query(text: str) -> tuple[str, ...]:
    """What is searched for: every word must be found. In lower case, as scripts spell it."""
    return tuple(text[:MAX_QUERY_CHARACTERS].lower().split())


def search_text(run: RunInfo) -> str:
    """Where words are looked for: id, job, name, user, namespace, account and labels."""
    labels = [f"{name}={value}" for name, value in run.labels]
    texts = (run.shown_id, run.key.job_id, run.name, run.user, run.namespace, run.account, *labels)
    return "\n".join(text for text in texts if text).lower()


def matches_all(text: str, words: Sequence[str]) -> bool:
    """Whether all words are in a text."""
    return all(word in text for word in words)


def run_page_path(run_id: str, job_id: str) -> str:
    """The path of a run's page, from the first page on."""
    if run_id in DOT_SEGMENTS:
        return "runs?" + _encode_query(q=run_id)
    return f"runs/{quote_segment(run_id)}?{_encode_query(job_id=job_id)}"


def receipt_path(run_id: str, job_id: str, form: str) -> str:
    """The path of a run's receipt in a form, from the first page on."""
    return f"runs/{quote_segment(run_id)}/receipt?{_encode_query(form=form, job_id=job_id)}"


def quote_segment(name: str) -> str:
    """A name as one step of a path, slashes and percent signs included."""
    return quote(name, safe="", errors="replace")


def _encode_query(**values: str) -> str:
    return urlencode(values, errors="replace")


SECONDS_SUFFIX = -3
"""Cuts the seconds off a moment."""
NONE_RUNNING = "No run is running. Start one: emissions-exporter run -- COMMAND"
NONE_FOUND = "No run has all these words in its name, id, job, user, account or labels."
HEADS = (
    *("Run", "Job", "User", "State", ">Power", "Last hour"),
    *(">Energy", ">Emissions", ">For"),
)


class RunRow(NamedTuple):
    """A run as one row."""

    run: RunInfo
    until: float
    energy_uj: int
    estimated_uj: int
    carbon_ng: int
    unpriced: str
    power_watts: float | None = None
    drawing: str = ""


def runs_panel(view: SnapshotView, charts: PowerCharts, query: str, root: str) -> Markup:
    """The runs that the node shows, running ones first; those that have all words of a query."""
    snapshot = view.snapshot
    totals, guessed = view.run_totals(), estimated_energy(snapshot.rows)
    words = split_query(query)
    lines = []
    for run in snapshot.runs:
        if words and not matches_all(search_text(run), words):
            continue
        tally = totals[run.shown_id, run.key.job_id]
        lines.append(
            RunRow(
                run,
                snapshot.wall if run.ended is None else run.ended,
                tally.total_uj,
                guessed.get(run.key, 0),
                tally.total_ng,
                unconverted_note(snapshot.factor_uses.get(run.key, ())),
                tally.power_watts,
                charts.runs.get(run.key, ""),
            )
        )
    count = len(snapshot.runs)
    found = f"{len(lines)} of {count} on this page" if words else f"{count} on this page"
    above = search_form(query, found, root, earlier=f"{root}runs")
    return _runs_table(lines, above, NONE_FOUND if words else NONE_RUNNING, root)


def earlier_runs_panel(records: Sequence[RunRecord], query: str, found: str, root: str) -> Markup:
    """Runs out of the ledger, in the order given; `found` says how many of how many."""
    lines = [
        RunRow(
            record.run,
            record.run.started + record.duration_seconds,
            record.energy_uj,
            sum(p.amount.energy_uj for p in record.parts if p.method is Method.ESTIMATED),
            record.carbon_ng,
            unconverted_note(record.factors),
        )
        for record in records
    ]
    return _runs_table(lines, search_form(query, found, f"{root}runs"), NONE_FOUND, root)


def _runs_table(lines: Sequence[RunRow], above: Markup, nothing: str, root: str) -> Markup:
    live = any(line.drawing or line.power_watts is not None for line in lines)
    energy = formatting.energy_scale(line.energy_uj for line in lines)
    carbon = formatting.carbon_scale(line.carbon_ng for line in lines)
    rows = [_run_cells(line, root, energy, carbon, live=live) for line in lines]
    heads = HEADS if live else tuple(h for h in HEADS if h not in (">Power", "Last hour"))
    marks = [
        {
            "data_words": search_text(line.run),
            "data_key": run_page_path(line.run.shown_id, line.run.key.job_id),
        }
        for line in lines
    ]
    return table("Runs", heads, rows, nothing, above=above, marks=marks)


def search_form(query: str, found: str, action: str, earlier: str = "") -> Markup:
    """The field to search runs at the page `action`, or at `earlier` if that is a page as well."""
    more = [tag("button", "Search earlier runs", formaction=earlier)] if earlier else []
    return tag(
        "form",
        tag("label", "Search runs", for_="words"),
        Markup(
            tag(
                "input",
                id="words",
                name="q",
                type="search",
                value=query,
                placeholder="name, id, job, user, label\u2026",
                autocomplete="off",
                maxlength="200",
            ).removesuffix("</input>")
        ),
        tag("button", "Search"),
        *more,
        tag("output", found, id="found"),
        id="search",
        role="search",
        action=action,
        method="get",
    )


def _run_cells(
    line: RunRow,
    root: str,
    energy: formatting.DisplayUnit,
    carbon: formatting.DisplayUnit,
    *,
    live: bool,
) -> tuple[TableCell, ...]:
    run = line.run
    way = root + run_page_path(run.shown_id, run.key.job_id)
    state = "running" if run.ended is None else "ended"
    drawn = [
        number_cell(formatting.watts(line.power_watts)),
        TableCell(line.drawing, class_="drawn"),
    ]
    grams = [text for text in (_budget_remark(run, line.carbon_ng, carbon), line.unpriced) if text]
    return (
        TableCell(tag("a", tag("bdi", tag("b", run_title(run))), href=way), _run_subtitle(run)),
        TableCell(run.key.job_id or formatting.UNKNOWN),
        TableCell(run.user or formatting.UNKNOWN, run.account),
        TableCell(state, run.end_reason if run.end_reason != state else "", state),
        *(drawn if live else []),
        number_cell(energy.text(line.energy_uj), estimated_note(line.estimated_uj, line.energy_uj)),
        number_cell(carbon.text(line.carbon_ng), concatenate(*_join_with_breaks(grams))),
        number_cell(formatting.duration(max(0.0, line.until - run.started)), _started_remark(run)),
    )


def _started_remark(run: RunInfo) -> Markup:
    return tag("time", f"since {formatting.timestamp(run.started)[:SECONDS_SUFFIX]}")


def run_title(run: RunInfo) -> str:
    """What a person calls a run: its name, its id where it has none."""
    return run.name if run.name.strip() else run.shown_id


def secondary_id(run: RunInfo) -> str:
    """The id of a run that is called otherwise."""
    return run.shown_id if run_title(run) != run.shown_id else ""


def _run_subtitle(run: RunInfo) -> str:
    namespace = f"namespace {run.namespace}" if run.namespace else ""
    texts = (namespace, secondary_id(run), *[f"{k}={v}" for k, v in run.labels])
    return ", ".join(text for text in texts if text)


def _join_with_breaks(texts: Sequence[str]) -> list[str]:
    return [part for text in texts for part in (Markup("<br>"), text)][1:]


def _budget_remark(run: RunInfo, carbon_ng: int, scale: formatting.DisplayUnit) -> str:
    if run.budget_grams is None:
        return ""
    grams = units.grams(carbon_ng)
    whole = scale.text(run.budget_grams * units.NANOGRAMS_PER_GRAM)
    said = f"{formatting.percentage(grams, run.budget_grams)} of {whole}"
    return warning_note(said) if grams > run.budget_grams else said


NESTED_RUNS_NOTE = "What an inner run used is not in the run around it."

ENCLOSING, ENCLOSED = "around it", "inside it"
SAME_JOB, SAME_GROUP = "of the same job", "of the same group"
RELATIONS = (ENCLOSING, ENCLOSED, SAME_JOB, SAME_GROUP)
MAX_RELATED = 50
"""More than that nobody reads, and each costs a look at all lines of the books."""


def related_runs_panel(run: RunInfo, snapshot: Snapshot, root: str) -> Markup:
    """Those on the page of the node, the closest first; nothing where there are none."""
    found = [
        (RELATIONS.index(how), other)
        for other in (*snapshot.runs, *snapshot.leaving)
        if (how := _relation(run, other))
    ]
    if not found:
        return Markup("")
    found.sort(key=lambda each: each[0])
    kinds = [RELATIONS[kind] for kind, _ in found[:MAX_RELATED]]
    records = [record_of(snapshot, other) for _, other in found[:MAX_RELATED]]
    energy = formatting.energy_scale(record.energy_uj for record in records)
    carbon = formatting.carbon_scale(record.carbon_ng for record in records)
    rows = [
        (
            TableCell(_run_link(record.run, root), secondary_id(record.run)),
            TableCell(how),
            TableCell(_state_text(record.run), class_=_state_text(record.run)),
            number_cell(energy.text(record.energy_uj)),
            number_cell(carbon.text(record.carbon_ng)),
        )
        for how, record in zip(kinds, records, strict=True)
    ]
    more = f" Shown are {MAX_RELATED} of {len(found)}." if len(found) > MAX_RELATED else ""
    heads = ("Run", "Relation", "State", ">Energy", ">Emissions")
    return table("Related runs", heads, rows, "", above=tag("p", NESTED_RUNS_NOTE + more))


def _relation(run: RunInfo, other: RunInfo) -> str:
    """What another run is to a run; "": nothing."""
    if other.key == run.key:
        return ""
    if other.key == run.enclosing:
        return ENCLOSING
    if other.enclosing == run.key:
        return ENCLOSED
    if run.key.job_id and run.key.job_id == other.key.job_id:
        return SAME_JOB
    group = dict(run.labels).get(GROUP_LABEL)
    if group and group == dict(other.labels).get(GROUP_LABEL):
        return SAME_GROUP
    return ""


def _run_link(run: RunInfo, root: str) -> Markup:
    return tag(
        "a", tag("bdi", run_title(run)), href=root + run_page_path(run.shown_id, run.key.job_id)
    )


def _state_text(run: RunInfo) -> str:
    return "running" if run.ended is None else "ended"


MAX_SEARCHED = 1_000
MAX_SHOWN = 200


def earlier_runs_page(
    node: str, records: Sequence[RunRecord], query: str, telemetry_path: str = METRICS_PATH
) -> bytes:
    """The newest runs that have all words of `query`, out of the newest that the ledger has."""
    words = split_query(query)
    found = [
        record for record in records if not words or matches_all(search_text(record.run), words)
    ]
    shown = found[:MAX_SHOWN]
    said = f"{len(shown)} of the newest {len(records)} that this node knows"
    main = concatenate(
        tag(
            "header",
            tag("nav", tag("a", f"\u2190 {node}", href=HOME_ROOT)),
            tag("h1", "Earlier runs"),
        ),
        earlier_runs_panel(shown, query, said, HOME_ROOT),
    )
    return page_document(f"Runs \u00b7 {node}", main, HOME_ROOT, telemetry_path=telemetry_path)
