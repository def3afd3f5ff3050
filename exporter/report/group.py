"""Records of a group: the sum of its runs, their means, and the final run."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from exporter import formatting, units
from exporter.model.record import FIRST_TASK_LABEL
from exporter.report import quantities
from exporter.report.inner import merge_tasks
from exporter.report.records import combine_records, is_task

Record = Mapping[str, Any]
FINAL_LABEL = "final"
TRUE_VALUES = ("1", "true", "yes")


def group_record(
    records: Sequence[Record], name: str, final_id: str = "", *, complete: bool = True
) -> dict[str, Any]:
    """Return the sum of one or more records, with `group`: means, standard errors, final run.

    A CodeCarbon tracker with its tasks is one run. The final run is the run with the id `final_id`,
    or the last with this name; else the last with the label `final=true`; else the last that was
    started, and is no task of a CodeCarbon tracker unless all are. Means are over runs that have
    ended, those of grams without the runs whose grams are incomplete.
    `complete` is false if the records do not cover all runs of the group. Raises KeyError if no run
    has the id or name `final_id`.
    """
    members, records = records, merge_tasks(records)
    count = f"all {len(records)}" if complete else f"{len(records)}"
    ended = [record for record in records if record["ended"] is not None]
    converted = [record for record in ended if not quantities.unconverted_uj(record)]
    energy, energy_error = _mean_and_error([units.joules(record["energy_uj"]) for record in ended])
    carbon, carbon_error = _mean_and_error([units.grams(each["carbon_ng"]) for each in converted])
    final, chosen_by = _choose_final(records, members, final_id)
    labels = [record.get("labels") or {} for record in records]
    return {
        **combine_records(
            records, f"{count} of group {name}" if len(records) > 1 else f"group {name}"
        ),
        "labels": {k: v for k, v in labels[0].items() if all(o.get(k) == v for o in labels)},
        "group": {
            "name": name,
            "runs": len(records),
            "ended": len(ended),
            "with_grams": len(converted),
            "complete": complete,
            "mean_energy_joules": energy,
            "energy_standard_error_joules": energy_error,
            "mean_carbon_grams": carbon,
            "carbon_standard_error_grams": carbon_error,
            "final": {
                **{key: final[key] for key in ("run_id", "job_id", "started", "ended")},
                "name": final.get("name", ""),
                **{key: final[key] for key in ("energy_uj", "carbon_ng", "intensity")},
                "unseen_runs": quantities.unseen_runs(final),
                "chosen_by": chosen_by,
            },
        },
    }


def group_facts(record: Record) -> list[tuple[str, str]]:
    """Return the facts of a group as text; empty if the record has no group."""
    group = record.get("group")
    if group is None:
        return []
    final = group["final"]
    share = f"{formatting.percentage(final['energy_uj'], record['energy_uj'])} of the energy"
    named = f"{final['name']}, " if final.get("name") not in (None, "", final["run_id"]) else ""
    run = f"{named}{final['run_id']} ({final['chosen_by']})"
    in_energy, in_carbon = _scales(group)
    grams = quantities.carbon_text({"intensity": [], "unseen_runs": 0, **final}, scale=in_carbon)
    amounts = f"{in_energy.text(final['energy_uj'])}, {grams} CO2eq"
    facts = [
        ("mean run", _mean_text(group)),
        ("final run", f"{run}: {amounts}; {share}"),
    ]
    if group["ended"] < group["runs"]:
        left = group["runs"] - group["ended"]
        facts.append(
            ("running", f"{left} of {group['runs']} runs; included in the sum, not in the mean")
        )
    if not group["complete"]:
        facts.append(("incomplete", "the group has more runs, which are not included"))
    return facts


def _scales(group: Record) -> tuple[formatting.DisplayUnit, formatting.DisplayUnit]:
    """Return the display units for energy and emissions of single runs of the group."""
    mean_uj = (group["mean_energy_joules"] or 0.0) * units.MICROJOULES_PER_JOULE
    mean_ng = (group["mean_carbon_grams"] or 0.0) * units.NANOGRAMS_PER_GRAM
    final = group["final"]
    return (
        formatting.energy_scale((mean_uj, final["energy_uj"])),
        formatting.carbon_scale((mean_ng, final["carbon_ng"])),
    )


def _mean_text(group: Record) -> str:
    """Return the mean and its standard error as text."""
    if group["mean_energy_joules"] is None:
        return "no run has ended"
    in_energy, in_carbon = _scales(group)

    def energy(name: str) -> str:
        return in_energy.text(group[name] * units.MICROJOULES_PER_JOULE)

    def carbon(name: str) -> str:
        grams = group[name]
        return (
            formatting.UNKNOWN
            if grams is None
            else in_carbon.text(grams * units.NANOGRAMS_PER_GRAM)
        )

    means = energy("mean_energy_joules"), carbon("mean_carbon_grams")
    with_grams = group.get("with_grams", group["ended"])
    excluded = (
        ""
        if with_grams == group["ended"]
        else f"; the grams are the mean of {with_grams} of {group['ended']} runs, without those "
        "that have energy without a carbon intensity"
    )
    if group["energy_standard_error_joules"] is None:
        return f"{means[0]}, {means[1]} CO2eq; one run has no standard error{excluded}"
    error = energy("energy_standard_error_joules")
    has_error = group["carbon_standard_error_grams"] is not None
    carbon_error = f" \u00b1 {carbon('carbon_standard_error_grams')}" if has_error else ""
    return (
        f"{means[0]} \u00b1 {error}, {means[1]}{carbon_error} CO2eq "
        f"(standard error of {group['ended']} runs){excluded}"
    )


def _mean_and_error(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the mean and its standard error from the sample deviation; None if undefined."""
    if not values:
        return None, None
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    squares = math.fsum((value - mean) ** 2 for value in values)
    return mean, math.sqrt(squares / (len(values) - 1) / len(values))


def _choose_final(
    records: Sequence[Record], members: Sequence[Record], final_id: str
) -> tuple[Record, str]:
    """Return the final run, and how it was chosen.

    `members` are the records before trackers were merged with their tasks: a task can be named.
    """
    latest = sorted(records, key=lambda record: record["started"])
    if final_id:
        every = [*sorted(members, key=lambda record: record["started"]), *latest]
        named = [record for record in every if record["run_id"] == final_id]
        named = named or [record for record in every if record.get("name") == final_id]
        if not named:
            raise KeyError(final_id)
        return named[-1], "as it was named"
    marked = [
        r for r in latest if (r.get("labels") or {}).get(FINAL_LABEL, "").lower() in TRUE_VALUES
    ]
    if marked:
        return marked[-1], f"by its label {FINAL_LABEL}"
    trackers = [record for record in latest if not _is_only_task(record)]
    final = (trackers or latest)[-1]
    has_later_task = any(is_task(each) and each["started"] > final["started"] for each in members)
    is_first_task = is_task(final) or "more_tasks" in final
    if has_later_task and not is_first_task:
        return final, "the last that is not a task"
    return final, "the last that was begun"


def _is_only_task(record: Record) -> bool:
    """Whether a record is a task of a tracker, without its tracker or its other tasks."""
    if not is_task(record) or "more_tasks" in record:
        return False
    is_first = FIRST_TASK_LABEL not in record["labels"]
    return not is_first or record.get("inside", "") is not None
