"""The cells of the table, the same on a terminal, in Markdown and in HTML."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from exporter import human, units
from exporter.report.leaderboard.board import Board
from exporter.report.leaderboard.entry import Entry
from exporter.report.leaderboard.ranking import Question, Row, Sort

PER_KG_BELOW = 0.1
"""Results per gram that are all smaller are given per kilogram."""
KILO = 1_000
MOST_DIGITS = 9
SCALES = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"), (1e3, "thousand"))
ORDER = {
    Sort.GRAMS: "fewest grams first",
    Sort.ENERGY: "least energy first",
    Sort.IDLE: "least held idle first",
    Sort.RESULT: "best result first",
    Sort.PER_RESULT: "most result per gram first",
}
NO_RUNS = (
    "No runs to compare. `emissions-exporter run -- COMMAND` makes one, and so does `track` of "
    "exporter.client; `emissions-exporter runs` lists those that are known here."
)


class Column(NamedTuple):
    """One column: its head, and the text of each row."""

    head: str
    cells: tuple[str, ...]
    kind: str = "n"
    """What is in it: numbers ("n"), or one of the facts of a run."""

    @property
    def is_number(self) -> bool:
        """Whether it stands in line at the right."""
        return self.kind in ("n", "rank")


def columns(board: Board) -> list[Column]:
    """What is shown of each row; what no run has is left out."""
    rows, asked = board.rows, board.question
    has_names = any(row.entry.name for row in rows)
    has_jobs = any(row.entry.job_id for row in rows)
    in_energy = human.energy_scale(row.entry.energy_uj for row in rows)
    in_carbon = human.carbon_scale(row.entry.carbon_ng for row in rows)
    found = [
        _column("rank", rows, lambda row: str(row.rank or human.UNKNOWN), "rank"),
        *([_column("name", rows, lambda row: row.entry.name, "name")] if has_names else []),
        _column("run", rows, lambda row: row.entry.run_id, "run"),
        *([_column("job", rows, lambda row: row.entry.job_id, "job")] if has_jobs else []),
        _column("user", rows, lambda row: row.entry.user, "user"),
        _column("ended (UTC)", rows, lambda row: ended(row.entry), "time"),
        _column("energy", rows, lambda row: energy(row.entry, in_energy)),
        _column("CO2eq", rows, lambda row: carbon(row.entry, in_carbon)),
        _column("held idle", rows, lambda row: held(row.entry)),
    ]
    if asked.metric:
        found.append(_column(asked.metric, rows, lambda row: result(row, asked)))
    if any(row.per_gram is not None for row in rows):
        found.append(_per_gram(rows, asked))
    if any(row.grams_per_units is not None for row in rows):
        in_units = units_scale(rows)
        found.append(_column(per_units(asked), rows, lambda row: grams_for_units(row, in_units)))
    return [*found, _column("marks", rows, lambda row: ", ".join(marks(row)), "marks")]


def title(board: Board) -> str:
    """How many runs, and their order."""
    shown = len(board.rows)
    runs = f"{board.of} run{'' if board.of == 1 else 's'}"
    first = f", the first {shown}" if shown < board.of else ""
    return f"{runs}, {ORDER[board.question.sort]}{first}"


def per_units(asked: Question) -> str:
    """What grams per unit are called."""
    return f"per {human.number(asked.per)} {asked.unit}"


def ended(entry: Entry) -> str:
    """When, to the minute."""
    if entry.ended is None:
        return "lost" if entry.lost else "running"
    return human.moment(entry.ended)[:-3]


def energy(entry: Entry, scale: human.Scale) -> str:
    """What it used; nothing measured is not zero."""
    return scale.text(entry.energy_uj) if entry.energy_uj else human.UNKNOWN


def carbon(entry: Entry, scale: human.Scale) -> str:
    """What it emitted; what waits for an intensity comes on top."""
    if not entry.energy_uj or (entry.unpriced_uj and not entry.carbon_ng):
        return human.UNKNOWN
    return ("> " if entry.unpriced_uj else "") + scale.text(entry.carbon_ng)


def held(entry: Entry) -> str:
    """The share of its energy that devices which it held spent idle."""
    return human.share(entry.held_uj, entry.energy_uj)


def result(row: Row, asked: Question) -> str:
    """The value that it logged, also where that is no number."""
    said = row.entry.logged.get(asked.metric)
    if row.result is not None:
        return value(row.result)
    if said is None:
        return human.UNKNOWN
    return said if isinstance(said, str) else "not a number"


def value(number: float) -> str:
    """A result: with four digits after the point where it is small, since results are close."""
    size = abs(number)
    if 0 < size < 0.00005 or size >= 1e15 or math.isinf(size):
        return f"{number:.2e}"
    if size >= 1_000:
        return human.number(number)
    return f"{number:.{4 if size < 9.99995 else 3 if size < 99.9995 else 2}f}"


def ratio(number: float) -> str:
    """A result per gram, which may be very small: its first three digits."""
    if not number:
        return "0"
    digits = 2 - math.floor(math.log10(abs(number)))
    return f"{number:.{digits}f}" if 0 < digits < MOST_DIGITS else value(number)


def size(number: float) -> str:
    """How many parameters, or whatever else the size is."""
    for scale, name in SCALES:
        if number >= 0.9995 * scale:
            return f"{number / scale:.3g} {name}"
    return f"{number:g}"


def marks(row: Row) -> list[str]:
    """What sets a run apart, or makes it hard to compare."""
    entry = row.entry
    found = ["Pareto"] if row.is_best else []
    if entry.ended is None:
        found.append("lost" if entry.lost else "running")
    if not entry.energy_uj:
        found.append("nothing measured")
    elif entry.unpriced_uj:
        found.append("grams incomplete")
    if entry.estimated_uj:
        whole = entry.estimated_uj >= entry.energy_uj
        share = human.share(entry.estimated_uj, entry.energy_uj)
        found.append("estimated" if whole else f"{share} estimated")
    return found


def _per_gram(rows: Sequence[Row], asked: Question) -> Column:
    most = max(row.per_gram or 0.0 for row in rows)
    scale, unit = (KILO, "kg") if most < PER_KG_BELOW else (1, "g")
    return _column(
        f"{asked.metric} per{human.NARROW_SPACE}{unit}",
        rows,
        lambda row: human.UNKNOWN if row.per_gram is None else ratio(row.per_gram * scale),
    )


def units_scale(rows: Iterable[Row]) -> human.Scale:
    """Unit of the grams per units of all rows."""
    known = (row.grams_per_units for row in rows)
    return human.carbon_scale(
        grams * units.NANOGRAMS_PER_GRAM for grams in known if grams is not None
    )


def grams_for_units(row: Row, scale: human.Scale) -> str:
    """What so many units emit, and the least and the most of the runs that it is the mean of."""
    if row.grams_per_units is None:
        return human.UNKNOWN
    mean = scale.text(row.grams_per_units * units.NANOGRAMS_PER_GRAM)
    if row.spread is None:
        return mean
    ends = (grams * units.NANOGRAMS_PER_GRAM / scale.size for grams in row.spread)
    return f"{mean} ({' to '.join(map(human.number, ends))})"


def _column(head: str, rows: Sequence[Row], text: Callable[[Row], str], kind: str = "n") -> Column:
    return Column(head, tuple(human.printable(text(row)) for row in rows), kind)
