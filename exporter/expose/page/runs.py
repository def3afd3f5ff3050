"""Tables of runs with links to their pages, and the search form."""

from collections.abc import Collection, Sequence
from typing import NamedTuple
from urllib.parse import quote, urlencode

from exporter import formatting, units
from exporter.expose.page.elements import (
    TableCell,
    emissions_text,
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
from exporter.expose.tallies import sum_tallies
from exporter.html import Markup, concatenate, tag
from exporter.model.ledger import FactorUse
from exporter.model.readings import Method
from exporter.model.record import GROUP_LABEL, RunRecord
from exporter.model.runs import RunInfo
from exporter.model.snapshot import Snapshot, record_of

MAX_QUERY_CHARACTERS = 200
DOT_SEGMENTS = (".", "..")
"""Path segments that browsers resolve even if percent-encoded."""


def split_query(text: str) -> tuple[str, ...]:
    """Split a search query into lower-case words, all of which must match, as live.js does."""
    return tuple(text[:MAX_QUERY_CHARACTERS].lower().split())


def search_text(run: RunInfo) -> str:
    """Return the searched text of a run: id, job, name, user, namespace, account and labels."""
    labels = [f"{name}={value}" for name, value in run.labels]
    texts = (*run.label_values, run.name, run.user, run.namespace, run.account, *labels)
    return "\n".join(text for text in texts if text).lower()


def matches_all(text: str, words: Sequence[str]) -> bool:
    """Return whether the text contains all words."""
    return all(word in text for word in words)


def run_page_path(run_id: str, job_id: str) -> str:
    """Return the path of a run's page, relative to the page of the node."""
    if run_id in DOT_SEGMENTS:
        return "runs?" + _encode_query(q=run_id)
    return f"runs/{quote_segment(run_id)}?{_encode_query(job_id=job_id)}"


def receipt_path(run_id: str, job_id: str, form: str) -> str:
    """Return the path of a run's receipt in a form, relative to the page of the node."""
    return f"runs/{quote_segment(run_id)}/receipt?{_encode_query(form=form, job_id=job_id)}"


def quote_segment(name: str) -> str:
    """Quote a name as one path segment, including slashes and percent signs."""
    return quote(name, safe="", errors="replace")


def _encode_query(**values: str) -> str:
    return urlencode(values, errors="replace")


SECONDS_SUFFIX = -3
"""Slice end that cuts the seconds off a timestamp."""
NONE_RUNNING = "No active runs. To start one: emissions-exporter run -- COMMAND"
NONE_FOUND = "No run matches all of these words in its name, id, job, user, account or labels."
HEADS = (
    *("Run", "Job", "User", "State", ">Power", "Last hour"),
    *(">Energy", ">Emissions", ">Duration"),
)


class RunRow(NamedTuple):
    """One row of a table of runs."""

    run: RunInfo
    until: float
    energy_uj: int
    estimated_uj: int
    carbon_ng: int
    factors: Collection[FactorUse]
    power_watts: float | None = None
    drawing: str = ""


def runs_panel(view: SnapshotView, charts: PowerCharts, query: str, root: str) -> Markup:
    """Build the table of the node's exported runs, active ones first, filtered by a query."""
    snapshot = view.snapshot
    estimated = estimated_energy(snapshot.rows)
    words = split_query(query)
    lines = []
    for run in snapshot.runs:
        if words and not matches_all(search_text(run), words):
            continue
        tally = sum_tallies(view.runs[run.key].by_device.values())
        lines.append(
            RunRow(
                run,
                snapshot.wall if run.ended is None else run.ended,
                tally.total_uj,
                estimated.get(run.key, 0),
                tally.total_ng,
                snapshot.factor_uses.get(run.key, ()),
                tally.power_watts,
                charts.runs.get(run.key, ""),
            )
        )
    count = len(snapshot.runs)
    found = f"{len(lines)} of {count} on this page" if words else f"{count} on this page"
    above = search_form(query, found, root, earlier=f"{root}runs")
    return _runs_table(lines, above, NONE_FOUND if words else NONE_RUNNING, root)


def earlier_runs_panel(records: Sequence[RunRecord], query: str, found: str, root: str) -> Markup:
    """Build the table of runs read from the ledger, in the order given.

    `found` is the text that states how many runs are shown.
    """
    lines = [
        RunRow(
            record.run,
            record.run.started + record.duration_seconds,
            record.energy_uj,
            sum(p.amount.energy_uj for p in record.parts if p.method is Method.ESTIMATED),
            record.carbon_ng,
            record.factors,
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
            "data_key": run_page_path(*line.run.label_values),
        }
        for line in lines
    ]
    return table("Runs", heads, rows, nothing, above=above, marks=marks)


def search_form(query: str, found: str, action: str, earlier: str = "") -> Markup:
    """Build the search form for the page `action`, and for the page `earlier` if there is one."""
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
    path = root + run_page_path(*run.label_values)
    state = "running" if run.ended is None else "ended"
    power_cells = [
        number_cell(formatting.watts(line.power_watts)),
        TableCell(line.drawing, class_="drawn"),
    ]
    remarks = [
        text
        for text in (
            _budget_remark(run, line.carbon_ng, carbon),
            unconverted_note(line.factors),
        )
        if text
    ]
    return (
        TableCell(tag("a", tag("bdi", tag("b", run_title(run))), href=path), _run_subtitle(run)),
        TableCell(run.key.job_id or formatting.UNKNOWN),
        TableCell(run.user or formatting.UNKNOWN, run.account),
        TableCell(state, run.end_reason if run.end_reason != state else "", state),
        *(power_cells if live else []),
        number_cell(energy.text(line.energy_uj), estimated_note(line.estimated_uj, line.energy_uj)),
        number_cell(
            emissions_text(line.carbon_ng, line.factors, carbon),
            concatenate(*_join_with_breaks(remarks)),
        ),
        number_cell(formatting.duration(max(0.0, line.until - run.started)), _started_remark(run)),
    )


def _started_remark(run: RunInfo) -> Markup:
    return tag("time", f"since {formatting.timestamp(run.started)[:SECONDS_SUFFIX]}")


def run_title(run: RunInfo) -> str:
    """Return the title of a run: its name, or its id if it has no name."""
    return run.name if run.name.strip() else run.shown_id


def secondary_id(run: RunInfo) -> str:
    """Return the id of a run whose title is its name, else an empty text."""
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
    budget = scale.text(run.budget_grams * units.NANOGRAMS_PER_GRAM)
    text = f"{formatting.percentage(grams, run.budget_grams)} of {budget}"
    return warning_note(text) if grams > run.budget_grams else text


NESTED_RUNS_NOTE = "The energy of an enclosed run is not included in its enclosing run."

ENCLOSING, ENCLOSED = "enclosing run", "enclosed run"
SAME_JOB, SAME_GROUP = "same job", "same group"
RELATIONS = (ENCLOSING, ENCLOSED, SAME_JOB, SAME_GROUP)
MAX_RELATED = 50
"""Limits the work per request: each related run costs a pass over all account balances."""


def related_runs_panel(run: RunInfo, snapshot: Snapshot, root: str) -> Markup:
    """Build the table of related runs on this node, closest first; empty if there are none."""
    related = [
        (RELATIONS.index(relation), other)
        for other in (*snapshot.runs, *snapshot.leaving)
        if (relation := _relation(run, other))
    ]
    if not related:
        return Markup("")
    related.sort(key=lambda each: each[0])
    kinds = [RELATIONS[place] for place, _ in related[:MAX_RELATED]]
    records = [record_of(snapshot, other) for _, other in related[:MAX_RELATED]]
    energy = formatting.energy_scale(record.energy_uj for record in records)
    carbon = formatting.carbon_scale(record.carbon_ng for record in records)
    rows = [
        (
            TableCell(_run_link(record.run, root), secondary_id(record.run)),
            TableCell(kind),
            TableCell(_state_text(record.run), class_=_state_text(record.run)),
            number_cell(energy.text(record.energy_uj)),
            number_cell(emissions_text(record.carbon_ng, record.factors, carbon)),
        )
        for kind, record in zip(kinds, records, strict=True)
    ]
    more = f" Showing {MAX_RELATED} of {len(related)}." if len(related) > MAX_RELATED else ""
    heads = ("Run", "Relation", "State", ">Energy", ">Emissions")
    return table("Related runs", heads, rows, "", above=tag("p", NESTED_RUNS_NOTE + more))


def _relation(run: RunInfo, other: RunInfo) -> str:
    """Return the relation of another run to a run; empty if they are unrelated."""
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
    return tag("a", tag("bdi", run_title(run)), href=root + run_page_path(*run.label_values))


def _state_text(run: RunInfo) -> str:
    return "running" if run.ended is None else "ended"


MAX_SEARCHED = 1_000
MAX_SHOWN = 200


def earlier_runs_page(
    node: str, records: Sequence[RunRecord], query: str, telemetry_path: str = METRICS_PATH
) -> bytes:
    """Render the newest runs in the ledger that match all words of `query`."""
    words = split_query(query)
    matches = [
        record for record in records if not words or matches_all(search_text(record.run), words)
    ]
    shown = matches[:MAX_SHOWN]
    found_text = f"{len(shown)} of the newest {len(records)} in the ledger"
    main = concatenate(
        tag(
            "header",
            tag("nav", tag("a", f"\u2190 {node}", href=HOME_ROOT)),
            tag("h1", "Earlier runs"),
        ),
        earlier_runs_panel(shown, query, found_text, HOME_ROOT),
    )
    return page_document(f"Runs \u00b7 {node}", main, HOME_ROOT, telemetry_path=telemetry_path)
