"""The dashboard that compares runs: emissions, held idle energy and grams per unit of work."""

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
"""Selects the listed runs once, from all runs; the panels query only these."""


def of_runs(recorded: str, by: str = "run_id") -> str:
    """Increase of the listed runs in the time range."""
    return gained(recorded, by, RUNS)


NOW = Row(
    "",
    (
        4,
        [
            number(
                "Runs",
                COUNT,
                "Number of runs listed below.",
                latest(f"count({of_runs(EMITTED)})"),
            ),
            number(
                "Energy",
                KILOWATT_HOURS,
                "Energy of the listed runs in the selected time range.",
                latest(f"{gained(USED, where=RUNS)} / {JOULES_PER_KWH}"),
            ),
            number(
                "Emissions",
                GRAMS,
                "Emissions of the listed runs in the selected time range.",
                latest(gained(EMITTED, where=RUNS)),
            ),
            number(
                "Share of all runs",
                RATIO,
                "Share of the listed runs in the emissions of all runs in the selected time range.",
                latest(
                    f"{gained(EMITTED, where=RUNS)} / "
                    f"{gained('user:emissions_run_carbon_grams:increase')}"
                ),
            ),
            number(
                "Held idle",
                RATIO,
                "Share of their energy used by idle devices that the runs held.",
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
                "Usage of each run in the selected time range, over all its nodes. Held idle is "
                "the share of its energy used by idle devices that it held. Grams per kWh "
                "distinguish a carbon-intensive grid from a large run.",
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
                "Held idle energy",
                KILOWATT_HOURS,
                "Energy of idle devices held by runs in the selected time range; the ten runs with "
                "the most.",
                latest(
                    f"sort_desc(topk(10, {of_runs(HELD)} / {JOULES_PER_KWH} > 0))", "{{run_id}}"
                ),
                link=RUN.of_label("run_id"),
            ),
            ranking(
                "Grams per 1,000 $unit",
                GRAMS,
                "Emissions per 1,000 units of work counted by the runs: tokens, samples, requests. "
                "Choose the unit at the top.",
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
                "Energy per 1,000 units of work, independent of the grid.",
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
                "Emissions of the listed runs, per step.",
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
    "Comparison of runs: emissions, energy, held idle energy, and grams per unit of work.",
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
