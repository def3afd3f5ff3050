"""Runs in a table, each with the way to its own page, and the field to search them."""

from collections.abc import Sequence
from typing import NamedTuple

from exporter import human, units
from exporter.expose.page.history import Charts
from exporter.expose.page.panels.doubts import doubt, estimated, estimates, unpriced
from exporter.expose.page.search import has_all, haystack, page_of, words_of
from exporter.expose.page.table import Cell, number, table
from exporter.expose.view import View
from exporter.markup import Markup, tag, together
from exporter.model.readings import Method
from exporter.model.record import RunRecord
from exporter.model.runs import RunInfo

MINUTES = -3
"""Cuts the seconds off a moment."""
NONE_RUNNING = "No run is running. Start one: emissions-exporter run -- COMMAND"
NONE_FOUND = "No run has all these words in its name, id, job, user, account or labels."
HEADS = (
    *("Run", "Job", "User", "State", ">Power", "Last hour"),
    *(">Energy", ">Emissions", ">For"),
)


class Line(NamedTuple):
    """A run as one row."""

    run: RunInfo
    until: float
    energy_uj: int
    estimated_uj: int
    carbon_ng: int
    unpriced: str
    power_watts: float | None = None
    drawing: str = ""


def runs(view: View, charts: Charts, query: str, root: str) -> Markup:
    """The runs that the node shows, running ones first; those that have all words of a query."""
    snapshot = view.snapshot
    totals, guessed = view.run_totals(), estimates(snapshot.rows)
    words = words_of(query)
    lines = []
    for run in snapshot.runs:
        if words and not has_all(haystack(run), words):
            continue
        tally = totals[run.shown_id, run.key.job_id]
        lines.append(
            Line(
                run,
                snapshot.wall if run.ended is None else run.ended,
                tally.total_uj,
                guessed.get(run.key, 0),
                tally.total_ng,
                unpriced(snapshot.factor_uses.get(run.key, ())),
                tally.power_watts,
                charts.runs.get(run.key, ""),
            )
        )
    count = len(snapshot.runs)
    found = f"{len(lines)} of {count} on this page" if words else f"{count} on this page"
    above = search(query, found, root, earlier=f"{root}runs")
    return _listed(lines, above, NONE_FOUND if words else NONE_RUNNING, root)


def past_runs(records: Sequence[RunRecord], query: str, found: str, root: str) -> Markup:
    """Runs out of the ledger, in the order given; `found` says how many of how many."""
    lines = [
        Line(
            record.run,
            record.run.started + record.duration_seconds,
            record.energy_uj,
            sum(p.amount.energy_uj for p in record.parts if p.method is Method.ESTIMATED),
            record.carbon_ng,
            unpriced(record.factors),
        )
        for record in records
    ]
    return _listed(lines, search(query, found, f"{root}runs"), NONE_FOUND, root)


def _listed(lines: Sequence[Line], above: Markup, nothing: str, root: str) -> Markup:
    live = any(line.drawing or line.power_watts is not None for line in lines)
    energy = human.energy_scale(line.energy_uj for line in lines)
    carbon = human.carbon_scale(line.carbon_ng for line in lines)
    rows = [_row(line, root, energy, carbon, live=live) for line in lines]
    heads = HEADS if live else tuple(h for h in HEADS if h not in (">Power", "Last hour"))
    marks = [
        {
            "data_words": haystack(line.run),
            "data_key": page_of(line.run.shown_id, line.run.key.job_id),
        }
        for line in lines
    ]
    return table("Runs", heads, rows, nothing, above=above, marks=marks)


def search(query: str, found: str, action: str, earlier: str = "") -> Markup:
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


def _row(
    line: Line, root: str, energy: human.Scale, carbon: human.Scale, *, live: bool
) -> tuple[Cell, ...]:
    run = line.run
    way = root + page_of(run.shown_id, run.key.job_id)
    state = "running" if run.ended is None else "ended"
    drawn = [number(human.watts(line.power_watts)), Cell(line.drawing, class_="drawn")]
    grams = [text for text in (_budget(run, line.carbon_ng, carbon), line.unpriced) if text]
    return (
        Cell(tag("a", tag("bdi", tag("b", called(run))), href=way), _also_called(run)),
        Cell(run.key.job_id or human.UNKNOWN),
        Cell(run.user or human.UNKNOWN, run.account),
        Cell(state, run.end_reason if run.end_reason != state else "", state),
        *(drawn if live else []),
        number(energy.text(line.energy_uj), estimated(line.estimated_uj, line.energy_uj)),
        number(carbon.text(line.carbon_ng), together(*_between(grams))),
        number(human.duration(max(0.0, line.until - run.started)), _since(run)),
    )


def _since(run: RunInfo) -> Markup:
    return tag("time", f"since {human.moment(run.started)[:MINUTES]}")


def called(run: RunInfo) -> str:
    """What a person calls a run: its name, its id where it has none."""
    return run.name if run.name.strip() else run.shown_id


def id_beside_name(run: RunInfo) -> str:
    """The id of a run that is called otherwise."""
    return run.shown_id if called(run) != run.shown_id else ""


def _also_called(run: RunInfo) -> str:
    namespace = f"namespace {run.namespace}" if run.namespace else ""
    texts = (namespace, id_beside_name(run), *[f"{k}={v}" for k, v in run.labels])
    return ", ".join(text for text in texts if text)


def _between(texts: Sequence[str]) -> list[str]:
    return [part for text in texts for part in (Markup("<br>"), text)][1:]


def _budget(run: RunInfo, carbon_ng: int, scale: human.Scale) -> str:
    if run.budget_grams is None:
        return ""
    grams = units.grams(carbon_ng)
    whole = scale.text(run.budget_grams * units.NANOGRAMS_PER_GRAM)
    said = f"{human.share(grams, run.budget_grams)} of {whole}"
    return doubt(said) if grams > run.budget_grams else said
