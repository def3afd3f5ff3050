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
                "name": final.get("name", ""),
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
    named = f"{final['name']}, " if final.get("name") not in (None, "", final["run_id"]) else ""
    run = f"{named}{final['run_id']} ({final['chosen_by']})"
    in_energy, in_carbon = _scales(group)
    amounts = f"{in_energy.text(final['energy_uj'])}, {in_carbon.text(final['carbon_ng'])} CO2eq"
    facts = [
        ("mean run", _mean_text(group)),
        ("final run", f"{run}: {amounts}; {of}"),
    ]
    if group["ended"] < group["runs"]:
        left = group["runs"] - group["ended"]
        facts.append(("running", f"{left} of {group['runs']} runs; in the sum, not in the mean"))
    if not group["complete"]:
        facts.append(("too little", "the group has more runs than the newest that were read"))
    return facts


def _scales(group: Record) -> tuple[human.Scale, human.Scale]:
    """Units for the energy and the emissions of single runs of the group."""
    mean_uj = (group["mean_energy_joules"] or 0.0) * units.MICROJOULES_PER_JOULE
    mean_ng = (group["mean_carbon_grams"] or 0.0) * units.NANOGRAMS_PER_GRAM
    final = group["final"]
    return (
        human.energy_scale((mean_uj, final["energy_uj"])),
        human.carbon_scale((mean_ng, final["carbon_ng"])),
    )


def _mean_text(group: Record) -> str:
    """The mean and its standard error."""
    if group["mean_energy_joules"] is None:
        return "none has ended"
    in_energy, in_carbon = _scales(group)

    def energy(name: str) -> str:
        return in_energy.text(group[name] * units.MICROJOULES_PER_JOULE)

    def carbon(name: str) -> str:
        return in_carbon.text(group[name] * units.NANOGRAMS_PER_GRAM)

    means = energy("mean_energy_joules"), carbon("mean_carbon_grams")
    if group["energy_standard_error_joules"] is None:
        return f"{means[0]}, {means[1]} CO2eq; one run has no standard error"
    errors = energy("energy_standard_error_joules"), carbon("carbon_standard_error_grams")
    return (
        f"{means[0]} \u00b1 {errors[0]}, {means[1]} \u00b1 {errors[1]} CO2eq "
        f"(standard error of {group['ended']} runs)"
    )


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
