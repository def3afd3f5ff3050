"""The board for programs: JSON and CSV, in grams, joules and seconds; what is unknown is null."""

import csv
import io
import json
from typing import Any

from exporter import human, units
from exporter.report.leaderboard.board import Board
from exporter.report.leaderboard.ranking import Row
from exporter.report.leaderboard.words import marks

VERSION = 1
COLUMNS = ("rank", "run_id", "job_id", "user", "started", "ended", "energy_joules", "carbon_grams",
           "held_idle_ratio", "result", "result_per_gram", "grams_per_units",
           "grams_per_units_least", "grams_per_units_most", "size", "pareto",
           "running", "grams_incomplete", "estimated_ratio", "grams_per_kwh", "nodes",
           "devices", "zones", "name")  # fmt: skip


def to_json(board: Board) -> str:
    """A document with what was asked, the rows and the notes."""
    asked = board.question
    document = {
        "version": VERSION,
        "sort": asked.sort,
        "metric": asked.metric or None,
        "higher_is_better": asked.higher_is_better if asked.metric else None,
        "size": asked.size or None,
        "unit": asked.unit or None,
        "units": asked.per if asked.unit else None,
        "of": board.of,
        "runs": [
            {**_values(row), "logged": _finite(row), "marks": marks(row)} for row in board.rows
        ],
        "notes": board.notes,
    }
    return json.dumps(document, indent=2, allow_nan=False)


def to_csv(board: Board) -> str:
    """A line for each run; several nodes, devices or zones are separated by spaces."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for row in board.rows:
        values = _values(row)
        joined = {k: " ".join(v) if isinstance(v, list) else v for k, v in values.items()}
        writer.writerow({k: human.cell(v) for k, v in joined.items()})
    return text.getvalue().removesuffix("\r\n")


def _values(row: Row) -> dict[str, Any]:
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
        "carbon_grams": entry.grams,
        "held_idle_ratio": entry.held_share,
        "result": row.result,
        "result_per_gram": row.per_gram,
        "grams_per_units": row.grams_per_units,
        "grams_per_units_least": least,
        "grams_per_units_most": most,
        "size": row.size,
        "pareto": row.is_best,
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


def _finite(row: Row) -> dict[str, Any]:
    """What it logged; JSON has no NaN."""
    logged = row.entry.logged
    return {k: v if isinstance(v, str) else row.entry.number(k) for k, v in logged.items()}
