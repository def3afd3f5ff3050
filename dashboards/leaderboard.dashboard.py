"""The dashboard that compares runs: who emits most, wastes most, and gets most of a gram."""

from panels import (
    JOULES_PER_KWH,
    RUN,
    Row,
    alerts,
    bars,
    board,
    choice,
    gained,
    kind,
    latest,
    named,
    number,
    query,
    ranking,
    table,
    variable,
)
from panels.queries import EVALUATION, NO_USER, OWNED, matching
from panels.units import COUNT, GRAMS, GRAMS_PER_KWH, JOULES, KILOWATT_HOURS, RATIO

RUNS = 'run_id=~"$run"'
COUNTING = 'run_id=~"$run",unit=~"$unit"'
EMITTED = "run_id:emissions_run_carbon_grams:increase"
USED = "run_id:emissions_run_energy_joules:increase"
HELD = "instance_run_id_job_id_device:emissions_run_held_idle_energy_joules:increase"
COUNTED = "instance_run_id_job_id_unit:emissions_run_units:increase"
THERE = f'last_over_time({OWNED}{{workload_namespace=~"$namespace"}}[$__range])'
CHOSEN = (
    f"query_result(topk($top, {gained(EMITTED, 'run_id')} "
    f"and on (run_id) {matching(named(THERE, 'user', NO_USER), 'user', '$user')}))"
)
"""All runs are looked at once, for this; the panels then ask for these alone."""


def of_runs(recorded: str, by: str = "run_id") -> str:
    """What the listed runs gained in the time shown."""
    return gained(recorded, by, RUNS)


NOW = Row(
    "",
    (
        4,
        [
            number(
                "Runs",
                COUNT,
                "Runs that are listed below.",
                latest(f"count({of_runs(EMITTED)})"),
            ),
            number(
                "Energy",
                KILOWATT_HOURS,
                "What the listed runs used in the time shown.",
                latest(f"{gained(USED, where=RUNS)} / {JOULES_PER_KWH}"),
            ),
            number(
                "Emissions",
                GRAMS,
                "What the listed runs emitted in the time shown.",
                latest(gained(EMITTED, where=RUNS)),
            ),
            number(
                "Of all runs",
                RATIO,
                "The part of the emissions of all runs in the time shown that these have.",
                latest(
                    f"{gained(EMITTED, where=RUNS)} / "
                    f"{gained('user:emissions_run_carbon_grams:increase')}"
                ),
            ),
            number(
                "Held idle",
                RATIO,
                "The part of their energy that devices used which they held and did nothing with.",
                latest(f"{gained(HELD, where=RUNS)} / {gained(USED, where=RUNS)}"),
            ),
        ],
    ),
)

RANKS = Row(
    "",
    (
        11,
        [
            table(
                "Runs by emissions",
                "What each run used in the time shown, over all its nodes. Held idle is the part "
                "of its energy that went into devices which did nothing. Grams per kWh tell a "
                "dirty grid from a large run.",
                {
                    "run_id": ("Run", ""),
                    "user": ("User", ""),
                    "workload_namespace": ("Namespace", ""),
                    "Value #A": ("Emissions", GRAMS),
                    "Value #B": ("Energy", KILOWATT_HOURS),
                    "Value #C": ("Held idle", RATIO),
                    "Value #D": ("Grams per kWh", GRAMS_PER_KWH),
                },
                latest(of_runs(EMITTED)),
                latest(f"{of_runs(USED)} / {JOULES_PER_KWH}"),
                latest(f"{of_runs(HELD)} / ({of_runs(USED)} > 0)"),
                latest(f"{of_runs(EMITTED)} / ({of_runs(USED)} / {JOULES_PER_KWH} > 0)"),
                latest(
                    "max by (run_id, user, workload_namespace) "
                    f"(last_over_time({OWNED}{{{RUNS}}}[$__range]))"
                ),
                sort_by="Emissions",
                links={"Run": RUN.of_field("Run")},
            ),
        ],
    ),
    (
        10,
        [
            ranking(
                "Idle waste",
                KILOWATT_HOURS,
                "Energy in the time shown of devices that runs held and did nothing with; the ten "
                "with most of it.",
                latest(
                    f"sort_desc(topk(10, {of_runs(HELD)} / {JOULES_PER_KWH} > 0))", "{{run_id}}"
                ),
                link=RUN.of_label("run_id"),
            ),
            ranking(
                "Grams per 1,000 $unit",
                GRAMS,
                "Emissions over what runs count of their own: tokens, samples, requests. Choose at "
                "the top which.",
                latest(
                    f"sort_desc(1000 * {of_runs(EMITTED)} / on (run_id) group_right () "
                    f"({gained(COUNTED, 'run_id, unit', COUNTING)} > 0))",
                    "{{run_id}}",
                ),
                link=RUN.of_label("run_id"),
            ),
            ranking(
                "Energy per 1,000 $unit",
                JOULES,
                "The same with energy, whatever the grid was.",
                latest(
                    f"sort_desc(1000 * {of_runs(USED)} / on (run_id) group_right () "
                    f"({gained(COUNTED, 'run_id, unit', COUNTING)} > 0))",
                    "{{run_id}}",
                ),
                link=RUN.of_label("run_id"),
            ),
        ],
    ),
    (
        9,
        [
            bars(
                "Emissions over time",
                GRAMS,
                "What the listed runs emitted, piece by piece.",
                query(
                    gained(EMITTED, "run_id", RUNS, "$__interval"),
                    "{{run_id}}",
                    interval=EVALUATION,
                ),
                link=RUN.of_label("run_id"),
            ),
        ],
    ),
)

dashboard = board(
    "Emissions: leaderboard",
    "emissions-leaderboard",
    "Runs against each other: emissions, energy, what was held idle, and grams per result.",
    [NOW, RANKS],
    [
        variable("user", "User", "label_values(emissions_run_info, user)"),
        variable("namespace", "Namespace", "label_values(emissions_run_info, workload_namespace)"),
        choice("top", "Runs at most", ("25", "10", "50", "100")),
        kind("unit", "Results", f"label_values({COUNTED}, unit)"),
        variable("run", "Run", CHOSEN, regex='/run_id="([^"]+)"/', all_value="", has_all=True),
    ],
    [alerts('run_id=~"$run"')],
)
