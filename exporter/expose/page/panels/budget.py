"""What a run may emit, and what it will have emitted when its work is done."""

from exporter import human, units
from exporter.expose.page.table import Cell, bar, number, table, verdict
from exporter.markup import Markup
from exporter.model.forecast import Forecast, forecast
from exporter.model.record import RunRecord
from exporter.model.runs import RunInfo

NO_FORECAST = "it does not say how far it has come"
TOO_EARLY = "too early: no energy was measured between its reports of progress"
NO_RANGE = "too early for a range"


def budget(record: RunRecord) -> Markup:
    """Budget, progress and forecast; nothing where a run has none of them."""
    run = record.run
    ahead = forecast(run.progress) if run.ended is None else None
    if run.budget_grams is None and run.progress is None:
        return Markup("")
    row = (
        _outlook(record, ahead),
        _budget(record),
        _progress(run),
        *(_forecast(ahead) if ahead else _unknown(run)),
    )
    heads = ("Outlook", ">Budget used", ">Work done", ">CO2eq, forecast", ">Energy", ">End, UTC")
    return table("Budget and forecast", heads, [row], "")


def _forecast(ahead: Forecast) -> tuple[Cell, ...]:
    """Grams, energy and end, each with its range, which is of 95 of 100 such runs."""
    low, high = ahead.low, ahead.high
    known = [each for each in (ahead, low, high) if each is not None]
    carbon = human.carbon_scale(each.carbon_ng for each in known)
    energy = human.energy_scale(each.energy_uj for each in known)
    grams, used = carbon.text(ahead.carbon_ng), energy.text(ahead.energy_uj)
    if low is None or high is None:
        return number(grams, NO_RANGE), number(used), number(human.moment(ahead.ends))
    return (
        number(grams, _to(carbon.text(low.carbon_ng), carbon.text(high.carbon_ng))),
        number(used, _to(energy.text(low.energy_uj), energy.text(high.energy_uj))),
        number(human.moment(ahead.ends), _between(low.ends, high.ends)),
    )


def _to(low: str, high: str) -> str:
    """Two numbers, which on a narrow screen stay on one line with their units."""
    return " to ".join(text.replace(" ", human.NARROW_SPACE) for text in (low, high))


def _between(begin: float, end: float) -> str:
    """Two moments; of one day without their date, which stands above."""
    dates, times = zip(*(human.moment(wall).split() for wall in (begin, end)), strict=True)
    said = times if len(set(dates)) == 1 else map(human.moment, (begin, end))
    return " to ".join(said)


def _unknown(run: RunInfo) -> tuple[Cell, ...]:
    why = NO_FORECAST if run.progress is None else TOO_EARLY
    why = why if run.ended is None else ""
    return number(human.UNKNOWN, why), number(human.UNKNOWN), number(human.UNKNOWN)


def _budget(record: RunRecord) -> Cell:
    grams = record.run.budget_grams
    if grams is None:
        return number(human.UNKNOWN)
    return bar(units.grams(record.carbon_ng), grams)._replace(remark=f"of {human.number(grams)} g")


def _progress(run: RunInfo) -> Cell:
    if run.progress is None:
        return number(human.UNKNOWN)
    done, total = run.progress.last.done, run.progress.total
    return bar(done, total)._replace(remark=f"{human.number(done)} of {human.number(total)}")


def _outlook(record: RunRecord, ahead: Forecast | None) -> Cell:
    """What one node can say: the others of the run may have used up what is left here."""
    grams, nodes = record.run.budget_grams, record.run.nodes
    if grams is None:
        return Cell("no budget is set")
    if units.grams(record.carbon_ng) > grams:
        return verdict("over the budget", ok=False)
    if ahead is not None:
        low, high = ahead.low or ahead, ahead.high or ahead
        if units.grams(low.carbon_ng) > grams:
            return verdict("will pass the budget", ok=False)
        if units.grams(high.carbon_ng) > grams:
            return verdict("may pass the budget", ok=False)
    if nodes > 1:
        return Cell("unknown here", f"the budget is for all {nodes} nodes, this is one of them")
    return verdict("within the budget" if ahead is None else "will stay within", ok=True)
