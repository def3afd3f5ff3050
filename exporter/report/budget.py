"""Emission budget of a record as text: how much was emitted, and whether it was exceeded."""

from collections.abc import Mapping, Sequence
from typing import Any

from exporter import formatting, units
from exporter.report import quantities

Record = Mapping[str, Any]
MOST_NAMED = 5


def is_exceeded(record: Record) -> bool:
    """Whether the run is known to have emitted more than its budget."""
    grams = record.get("budget_grams")
    return grams is not None and units.grams(record["carbon_ng"]) > grams


def exceeding(records: Sequence[Record]) -> list[str] | None:
    """Return the ids of runs that exceeded their budgets; None if no run has a budget."""
    if all(record.get("budget_grams") is None for record in records):
        return None
    return [str(record["run_id"]) for record in records if is_exceeded(record)]


def rows(record: Record) -> list[tuple[str, str]]:
    """Return the budget row of a receipt; empty if no budget was set."""
    if (ids := record.get("over_budget")) is not None:
        return [("budget", _of_several(ids, record.get("runs", 1)))]
    grams = record.get("budget_grams")
    if grams is None:
        return []
    carbon_ng, budget_ng = record["carbon_ng"], grams * units.NANOGRAMS_PER_GRAM
    is_unknown = quantities.are_grams_unknown(record)
    emitted = formatting.UNKNOWN if is_unknown else formatting.carbon(carbon_ng)
    used = f"{emitted} of {formatting.carbon(budget_ng)}"
    if is_exceeded(record):
        return [
            ("budget", f"exceeded by {formatting.carbon(carbon_ng - budget_ng)}: {used} emitted")
        ]
    incomplete = _incomplete_reason(record)
    if "boundary" in record:
        return [("budget", f"at least {used} used")]
    return [("budget", f"{used} used{incomplete}" if incomplete else f"not exceeded: {used} used")]


def _of_several(ids: Sequence[str], runs: int) -> str:
    if not ids:
        return "exceeded by no run"
    more = ", ..." if len(ids) > MOST_NAMED else ""
    return f"exceeded by {len(ids)} of {runs} runs: {', '.join(ids[:MOST_NAMED])}{more}"


def _incomplete_reason(record: Record) -> str:
    """Return why the amount is incomplete or may still grow; "" if it is final."""
    nodes, here = record.get("nodes") or 1, len(record["node"].split(", "))
    if nodes > here:
        return f" on {here} of the {nodes} nodes that the budget covers"
    if any(use["zone"] is None and use["energy_uj"] for use in record["intensity"]):
        return " so far; some energy has no intensity yet"
    return " so far" if record.get("ended") is None else ""
