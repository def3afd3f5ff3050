"""What it costs to use the outcome of a run, which is not what the run itself cost. Pure."""

import math
from collections.abc import Iterable

from exporter.report.leaderboard.entry import Entry


def with_servings(runs: Iterable[Entry]) -> list[Entry]:
    """The runs, each with those that use its outcome, which are no rows of their own then.

    Of several runs with the id that is named it is the one of the same job, else the last one. What
    uses the outcome of a run that is not among them stays by itself.
    """
    all_runs = list(runs)
    makers: dict[tuple[str, ...], Entry] = {}
    for run in sorted(all_runs, key=lambda each: each.started):
        if not run.serves:
            makers[run.user, run.run_id] = makers[_key(run)] = run
    users: dict[tuple[str, ...], list[Entry]] = {}
    alone = []
    for run in all_runs:
        named = (run.user, run.serves)
        made = makers.get((*named, run.job_id)) or makers.get(named)
        if run.serves and made is not None:
            users.setdefault(_key(made), []).append(run)
        else:
            alone.append(run)
    return [run._replace(servings=tuple(users.get(_key(run), ()))) for run in alone]


def counting(run: Entry, unit: str) -> tuple[Entry, ...]:
    """The runs that tell what one of a unit costs: those that use its outcome, else itself."""
    return tuple(each for each in run.servings if _counted(each, unit)) or (
        (run,) if _counted(run, unit) else ()
    )


def units_of(run: Entry) -> set[str]:
    """What it counted, or the runs that use its outcome."""
    return {name for each in (run, *run.servings) for name in each.units if _counted(each, name)}


def per_units(run: Entry, unit: str, per: int) -> tuple[float | None, tuple[float, float] | None]:
    """Grams for `per` of a unit, over all runs that tell it; and the least and the most of them.

    None where a run has no grams, or only some of them, and where there is but one to compare.
    """
    runs = counting(run, unit)
    if not runs or not all(each.energy_uj and not each.unpriced_uj for each in runs):
        return None, None
    mean = sum(each.grams for each in runs) / sum(each.units[unit] for each in runs) * per
    single = [each.grams / each.units[unit] * per for each in runs]
    if not math.isfinite(mean):
        return None, None
    return mean, (min(single), max(single)) if len(single) > 1 else None


def _key(run: Entry) -> tuple[str, ...]:
    return run.user, run.run_id, run.job_id


def _counted(run: Entry, unit: str) -> bool:
    return run.units.get(unit, 0.0) > 0
