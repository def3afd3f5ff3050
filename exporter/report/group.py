"""The runs of a sweep as one record: what all of it cost, what a run costs, and the final one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from exporter import human, units
from exporter.report.combined import combined

Record = Mapping[str, Any]
FINAL_LABEL = "final"
YES = ("1", "true", "yes")


def of_group(
    records: Sequence[Record], name: str, final_id: str = "", *, complete: bool = True
) -> dict[str, Any]:
    """The sums of at least one record, and `group`: means, their standard errors, the final run.

    The final run is that with the id `final_id`, or the last with that name; else the last that has
    the label `final=true`; else the last that was begun. Means are those of runs that have ended.
    Where not all runs are among the records, `complete` is false. Raises KeyError for a `final_id`
    that is none of theirs.
    """
    count = f"all {len(records)}" if complete else f"{len(records)}"
    ended = [record for record in records if record["ended"] is not None]
    energy, energy_error = _mean([units.joules(record["energy_uj"]) for record in ended])
    carbon, carbon_error = _mean([units.grams(record["carbon_ng"]) for record in ended])
    final, why = _final(records, final_id)
    labels = [record.get("labels") or {} for record in records]
    return {
        **combined(records, f"{count} of group {name}" if len(records) > 1 else f"group {name}"),
        "labels": {k: v for k, v in labels[0].items() if all(o.get(k) == v for o in labels)},
        "group": {
            "name": name,
            "runs": len(records),
            "ended": len(ended),
            "complete": complete,
            "mean_energy_joules": energy,
            "energy_standard_error_joules": energy_error,
            "mean_carbon_grams": carbon,
            "carbon_standard_error_grams": carbon_error,
            "final": {
                **{key: final[key] for key in ("run_id", "job_id", "started", "ended")},
                **{key: final[key] for key in ("energy_uj", "carbon_ng")},
                "chosen_by": why,
            },
        },
    }


def said(record: Record) -> list[tuple[str, str]]:
    """The facts of a group for a person; none of a record that is of no group."""
    group = record.get("group")
    if group is None:
        return []
    final = group["final"]
    of = f"{human.share(final['energy_uj'], record['energy_uj'])} of the energy"
    run = f"{final['run_id']} ({final['chosen_by']})"
    amounts = f"{human.energy(final['energy_uj'])}, {human.carbon(final['carbon_ng'])} CO2eq"
    facts = [
        ("mean run", _told(group)),
        ("final run", f"{run}: {amounts}; {of}"),
    ]
    if group["ended"] < group["runs"]:
        left = group["runs"] - group["ended"]
        facts.append(("not ended", f"{left} of {group['runs']} runs; in the sum, not in the mean"))
    if not group["complete"]:
        facts.append(("too little", "the group has more runs than the newest that were read"))
    return facts


def _told(group: Record) -> str:
    """A mean and its standard error."""
    if group["mean_energy_joules"] is None:
        return "none has ended"
    energy_uj, error_uj = (
        None if group[key] is None else round(group[key] * units.MICROJOULES_PER_JOULE)
        for key in ("mean_energy_joules", "energy_standard_error_joules")
    )
    carbon_ng, error_ng = (
        None if group[key] is None else round(group[key] * units.NANOGRAMS_PER_GRAM)
        for key in ("mean_carbon_grams", "carbon_standard_error_grams")
    )
    assert energy_uj is not None
    assert carbon_ng is not None
    energy, carbon = human.energy(energy_uj), human.carbon(carbon_ng)
    if error_uj is None or error_ng is None:
        return f"{energy}, {carbon} CO2eq; one run has no standard error"
    energy += f" \u00b1 {human.energy(error_uj)}"
    carbon += f" \u00b1 {human.carbon(error_ng)}"
    return f"{energy}, {carbon} CO2eq (standard error of {group['ended']} runs)"


def _mean(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The mean, and its standard error by the deviation of the sample; None: there is none."""
    if not values:
        return None, None
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    squares = math.fsum((value - mean) ** 2 for value in values)
    return mean, math.sqrt(squares / (len(values) - 1) / len(values))


def _final(records: Sequence[Record], final_id: str) -> tuple[Record, str]:
    """The final run, and by what it is known to be that."""
    latest = sorted(records, key=lambda record: record["started"])
    if final_id:
        named = [record for record in latest if record["run_id"] == final_id]
        named = named or [record for record in latest if record.get("name") == final_id]
        if not named:
            raise KeyError(final_id)
        return named[-1], "as it was named"
    marked = [r for r in latest if (r.get("labels") or {}).get(FINAL_LABEL, "").lower() in YES]
    if marked:
        return marked[-1], f"by its label {FINAL_LABEL}"
    return latest[-1], "the last that was begun"
