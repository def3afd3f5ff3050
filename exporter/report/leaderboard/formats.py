"""Leaderboard as text, Markdown, JSON and CSV, and the table cells shared with HTML."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from exporter import formatting, units
from exporter.report.leaderboard.board import Leaderboard
from exporter.report.leaderboard.entry import LeaderboardEntry
from exporter.report.leaderboard.ranking import RankedRun, RankingCriteria, SortKey

PER_KG_BELOW = 0.1
"""Results per gram are shown per kilogram if all are smaller."""
KILO = 1_000
MOST_DIGITS = 9
SCALES = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"), (1e3, "thousand"))
SORT_DESCRIPTIONS = {
    SortKey.GRAMS: ("lowest", "highest", "emissions"),
    SortKey.ENERGY: ("lowest", "highest", "energy"),
    SortKey.IDLE: ("lowest", "highest", "share held idle"),
    SortKey.RESULT: ("best", "worst", "result"),
    SortKey.PER_RESULT: ("highest", "lowest", "result per gram"),
}
"""What is first by a sort key and in reverse order, and of what."""
NO_RUNS = (
    "No runs to compare. Create one with `emissions-exporter run -- COMMAND` or with `track` of "
    "exporter.client; `emissions-exporter runs` lists the known runs."
)


class Column(NamedTuple):
    """Column with its head and the text of each row."""

    head: str
    cells: tuple[str, ...]
    kind: str = "n"
    """Kind of content: numbers ("n"), or a fact about the run."""

    @property
    def is_number(self) -> bool:
        """Whether it is right-aligned."""
        return self.kind in ("n", "rank")


def columns(board: Leaderboard) -> list[Column]:
    """Return the columns; columns without any value are omitted."""
    rows, asked = board.rows, board.question
    has_names = any(row.entry.name for row in rows)
    has_jobs = any(row.entry.job_id for row in rows)
    in_energy = formatting.energy_scale(row.entry.energy_uj for row in rows)
    in_carbon = formatting.carbon_scale(row.entry.carbon_ng for row in rows)
    found = [
        _column("rank", rows, lambda row: str(row.rank or formatting.UNKNOWN), "rank"),
        *([_column("name", rows, lambda row: row.entry.name, "name")] if has_names else []),
        _column("run", rows, lambda row: row.entry.run_id, "run"),
        *([_column("job", rows, lambda row: row.entry.job_id, "job")] if has_jobs else []),
        _column("user", rows, lambda row: row.entry.user, "user"),
        _column("ended (UTC)", rows, lambda row: ended_cell(row.entry), "time"),
        _column("energy", rows, lambda row: energy_cell(row.entry, in_energy)),
        _column("CO2eq", rows, lambda row: carbon_cell(row.entry, in_carbon)),
        _column("held idle", rows, lambda row: held_idle_cell(row.entry)),
    ]
    if asked.metric:
        found.append(_column(asked.metric, rows, lambda row: result_cell(row, asked)))
    if any(row.result_per_gram is not None for row in rows):
        found.append(_per_gram(rows, asked))
    if any(row.grams_per_units is not None for row in rows):
        in_units = units_scale(rows)
        found.append(
            _column(per_units_head(asked), rows, lambda row: grams_per_units_cell(row, in_units))
        )
    return [*found, _column("marks", rows, lambda row: ", ".join(run_marks(row)), "marks")]


def title(board: Leaderboard) -> str:
    """Return the number of runs and their order as text."""
    shown = len(board.rows)
    runs = f"{board.of} run{'' if board.of == 1 else 's'}"
    first = f", the first {shown}" if shown < board.of else ""
    *ends, amount = SORT_DESCRIPTIONS[board.question.sort]
    return f"{runs}, {ends[board.is_reversed]} {amount} first{first}"


def per_units_head(asked: RankingCriteria) -> str:
    """Return the head of the column of grams per units."""
    return f"per {formatting.number(asked.per)} {asked.unit}"


def ended_cell(entry: LeaderboardEntry) -> str:
    """Return the end time to the minute, or the state of a run that has not ended."""
    if entry.ended is None:
        return "lost" if entry.lost else "running"
    return formatting.timestamp(entry.ended)[:-3]


def energy_cell(entry: LeaderboardEntry, scale: formatting.DisplayUnit) -> str:
    """Return the energy; unknown, not zero, if nothing was measured."""
    return scale.text(entry.energy_uj) if entry.energy_uj else formatting.UNKNOWN


def carbon_cell(entry: LeaderboardEntry, scale: formatting.DisplayUnit) -> str:
    """Return the emissions; a lower bound (>) if energy has no carbon intensity yet."""
    if not entry.energy_uj or entry.are_grams_unknown:
        return formatting.UNKNOWN
    return ("> " if entry.unpriced_uj else "") + scale.text(entry.carbon_ng)


def held_idle_cell(entry: LeaderboardEntry) -> str:
    """Return the share of energy that devices held by the run used while idle."""
    return formatting.percentage(entry.held_uj, entry.energy_uj)


def result_cell(row: RankedRun, asked: RankingCriteria) -> str:
    """Return the logged value, also if it is not a number."""
    logged = row.entry.logged.get(asked.metric)
    if row.result is not None:
        return result_text(row.result)
    if logged is None:
        return formatting.UNKNOWN
    return logged if isinstance(logged, str) else "not a number"


def result_text(number: float) -> str:
    """Format a result; small ones with four decimals, because results are often close."""
    size = abs(number)
    if 0 < size < 0.00005 or size >= 1e15 or math.isinf(size):
        return f"{number:.2e}"
    if size >= 1_000:
        return formatting.number(number)
    return f"{number:.{4 if size < 9.99995 else 3 if size < 99.9995 else 2}f}"


def ratio_text(number: float) -> str:
    """Format a result per gram with three significant digits, because it may be very small."""
    if not number:
        return "0"
    digits = 2 - math.floor(math.log10(abs(number)))
    return f"{number:.{digits}f}" if 0 < digits < MOST_DIGITS else result_text(number)


def size_text(number: float) -> str:
    """Format the size of a model."""
    for scale, name in SCALES:
        if number >= 0.9995 * scale:
            return f"{number / scale:.3g} {name}"
    return f"{number:g}"


def run_marks(row: RankedRun) -> list[str]:
    """Return marks of a run: Pareto-optimal, or reasons why it is hard to compare."""
    entry = row.entry
    found = ["Pareto"] if row.is_pareto_optimal else []
    if entry.ended is None:
        found.append("lost" if entry.lost else "running")
    if not entry.energy_uj:
        found.append("nothing measured")
    elif entry.unpriced_uj:
        found.append("grams incomplete")
    if entry.estimated_uj:
        whole = entry.estimated_uj >= entry.energy_uj
        share = formatting.percentage(entry.estimated_uj, entry.energy_uj)
        found.append("estimated" if whole else f"{share} estimated")
    return found


def _per_gram(rows: Sequence[RankedRun], asked: RankingCriteria) -> Column:
    most = max(row.result_per_gram or 0.0 for row in rows)
    scale, unit = (KILO, "kg") if most < PER_KG_BELOW else (1, "g")
    return _column(
        f"{asked.metric} per{formatting.NARROW_SPACE}{unit}",
        rows,
        lambda row: (
            formatting.UNKNOWN
            if row.result_per_gram is None
            else ratio_text(row.result_per_gram * scale)
        ),
    )


def units_scale(rows: Iterable[RankedRun]) -> formatting.DisplayUnit:
    """Return the display unit for grams per units of all rows."""
    known = (row.grams_per_units for row in rows)
    return formatting.carbon_scale(
        grams * units.NANOGRAMS_PER_GRAM for grams in known if grams is not None
    )


def grams_per_units_cell(row: RankedRun, scale: formatting.DisplayUnit) -> str:
    """Return the mean emissions per units, with the range over the runs."""
    if row.grams_per_units is None:
        return formatting.UNKNOWN
    mean = scale.text(row.grams_per_units * units.NANOGRAMS_PER_GRAM)
    if row.spread is None:
        return mean
    ends = (grams * units.NANOGRAMS_PER_GRAM / scale.size for grams in row.spread)
    return f"{mean} ({' to '.join(map(formatting.number, ends))})"


def _column(
    head: str, rows: Sequence[RankedRun], text: Callable[[RankedRun], str], kind: str = "n"
) -> Column:
    return Column(head, tuple(formatting.printable(text(row)) for row in rows), kind)


SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~&])")


def text_table(board: Leaderboard) -> str:
    """Render aligned columns, followed by the notes."""
    if not board.rows:
        return "\n".join(board.notes or (NO_RUNS,))
    found = columns(board)
    widths = [max(map(len, (column.head, *column.cells))) for column in found]
    lines = [
        "  ".join(
            cell.rjust(width) if column.is_number else cell.ljust(width)
            for cell, column, width in zip(cells, found, widths, strict=True)
        ).rstrip()
        for cells in _lines(found, upper=True)
    ]
    said = (title(board), "", *lines, "", *board.notes)
    return "\n".join(formatting.printable(line) for line in said)


def markdown_table(board: Leaderboard) -> str:
    """Render a GitHub-flavored Markdown table, followed by the notes as a list."""
    if not board.rows:
        return "\n".join(board.notes or (NO_RUNS,))
    found = columns(board)
    head, *rows = (f"| {' | '.join(map(_escaped, cells))} |" for cells in _lines(found))
    rule = "|" + "|".join(" ---: " if column.is_number else " --- " for column in found) + "|"
    said = (f"{_escaped(title(board))}:", "", head, rule, *rows, "")
    return "\n".join(
        (*said, *(f"- {_escaped(formatting.printable(note))}" for note in board.notes))
    )


def _lines(found: list[Column], *, upper: bool = False) -> list[tuple[str, ...]]:
    """Yield the heads, then the rows."""
    heads = [formatting.printable(column.head) for column in found]
    return [
        tuple(head.upper() if upper else head for head in heads),
        *zip(*(column.cells for column in found), strict=True),
    ]


def _escaped(text: str) -> str:
    r"""Escape a text so that it contains no link, tag or table column."""
    return SPECIAL.sub(r"\\\1", text)


JSON_VERSION = 1
COLUMNS = ("rank", "run_id", "job_id", "user", "started", "ended", "energy_joules", "carbon_grams",
           "held_idle_ratio", "result", "result_per_gram", "grams_per_units",
           "grams_per_units_least", "grams_per_units_most", "size", "pareto",
           "running", "grams_incomplete", "estimated_ratio", "grams_per_kwh", "nodes",
           "devices", "zones", "name")  # fmt: skip


def to_json(board: Leaderboard) -> str:
    """Render a JSON document with criteria, rows and notes."""
    asked = board.question
    document = {
        "version": JSON_VERSION,
        "sort": asked.sort,
        "metric": asked.metric or None,
        "higher_is_better": asked.higher_is_better if asked.metric else None,
        "size": asked.size or None,
        "unit": asked.unit or None,
        "units": asked.per if asked.unit else None,
        "of": board.of,
        "runs": [
            {**_values(row), "logged": _finite(row), "marks": run_marks(row)} for row in board.rows
        ],
        "notes": board.notes,
    }
    return json.dumps(document, indent=2, allow_nan=False)


def to_csv(board: Leaderboard) -> str:
    """Render CSV with a line per run; nodes, devices and zones are separated by spaces."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for row in board.rows:
        values = _values(row)
        joined = {k: " ".join(v) if isinstance(v, list) else v for k, v in values.items()}
        writer.writerow({k: formatting.csv_cell(v) for k, v in joined.items()})
    return text.getvalue().removesuffix("\r\n")


def _values(row: RankedRun) -> dict[str, Any]:
    entry = row.entry
    estimated = entry.estimated_uj
    least, most = row.spread or (None, None)
    return {
        "rank": row.rank,
        "run_id": entry.run_id,
        "job_id": entry.job_id,
        "user": entry.user,
        "started": entry.started,
        "ended": entry.ended,
        "energy_joules": units.joules(entry.energy_uj),
        "carbon_grams": None if entry.are_grams_unknown else entry.grams,
        "held_idle_ratio": entry.held_idle_ratio,
        "result": row.result,
        "result_per_gram": row.result_per_gram,
        "grams_per_units": row.grams_per_units,
        "grams_per_units_least": least,
        "grams_per_units_most": most,
        "size": row.size,
        "pareto": row.is_pareto_optimal,
        "running": entry.ended is None,
        "grams_incomplete": entry.unpriced_uj > 0,
        "estimated_ratio": (
            None if estimated is None or not entry.energy_uj else estimated / entry.energy_uj
        ),
        "grams_per_kwh": entry.grams_per_kwh,
        "nodes": sorted(entry.nodes),
        "devices": sorted(entry.devices),
        "zones": sorted({grid.zone for grid in entry.grids}),
        "name": entry.name,
    }


def _finite(row: RankedRun) -> dict[str, Any]:
    """Return the logged values for JSON, which has no NaN."""
    logged = row.entry.logged
    return {k: v if isinstance(v, str) else row.entry.number(k) for k, v in logged.items()}
