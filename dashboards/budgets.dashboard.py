"""The dashboard of budgets: of owners, of periods and of single runs."""

from grafanalib import core
from panels import (
    JOULES_PER_KWH,
    RUN,
    Row,
    alerts,
    board,
    graph,
    latest,
    number,
    query,
    table,
    variable,
)
from panels.units import COUNT, DATE, GRAMS, KILOWATT_HOURS, RATIO

BUDGETS = 'budget=~"$budget"'
SPENT = f"budget:emissions_budget_spent_per_limit:ratio{{{BUDGETS}}}"
AHEAD = f"budget:emissions_budget_forecast_per_limit:ratio{{{BUDGETS}}}"
OF_RUN = "run_id:emissions_run_cumulative_carbon_per_budget:ratio"
NEAR, OVER = 0.8, 1.0
MOST_DRAWN = 2
"""Of a budget: one that is far over would flatten all others."""


def budgets(series: str) -> str:
    """A series of each budget."""
    return f"sum by (budget, period) ({series}{{{BUDGETS}}})"


def owned(title: str, quantity: str, unit: str, divisor: str) -> core.Table:
    """The budgets in one unit."""
    in_unit = f" / {divisor}" if divisor else ""
    limit = budgets(f"emissions_budget_limit_{quantity}")

    def listed(series: str) -> str:
        return f"sum by (budget, period) ({series}) and on (budget, period) {limit}"

    return table(
        f"Budgets in {title}",
        "Spent since the period began, at its end at the rate of the last hours, and until when "
        "the budget lasts at that rate. What was not seen for more than an hour is not in it.",
        {
            "budget": ("Budget", ""),
            "period": ("Period", ""),
            "Value #A": ("Limit", unit),
            "Value #B": ("Remains", unit),
            "Value #C": ("Spent", RATIO),
            "Value #D": ("Forecast of it", RATIO),
            "Value #E": ("Lasts until", DATE),
        },
        latest(f"{limit}{in_unit}"),
        latest(f"{budgets(f'budget:emissions_budget_{quantity}:remaining')}{in_unit}"),
        latest(listed(SPENT)),
        latest(listed(AHEAD)),
        latest(
            "1000 * "
            f"({listed(f'budget:emissions_budget_exhausted_time_seconds:forecast{{{BUDGETS}}}')})"
        ),
        sort_by="Spent",
        red_from={"Spent": (NEAR, OVER), "Forecast of it": (OVER, 10 * OVER)},
    )


NOW = Row(
    "",
    (
        4,
        [
            number(
                "Exhausted",
                COUNT,
                "Budgets of owners of which all is spent.",
                latest(f"count({SPENT} >= {OVER:g}) or vector(0)"),
                red_from=1,
            ),
            number(
                "Will not last",
                COUNT,
                "Budgets of owners that are not exhausted, and will be before their period ends at "
                "the rate of the last hours.",
                latest(f"count({SPENT} < {OVER:g} and {AHEAD} > {OVER:g}) or vector(0)"),
                orange_from=1,
            ),
            number(
                "Budgets",
                COUNT,
                "Budgets of owners that rules were made for: `emissions-exporter rules`.",
                latest(f"count({SPENT})"),
                nothing="none",
            ),
            number(
                "Runs over budget",
                COUNT,
                "Runs on the page that emitted more than their own budget.",
                latest(f"count({OF_RUN} >= {OVER:g}) or vector(0)"),
                red_from=1,
            ),
            number(
                "Runs near budget",
                COUNT,
                "Runs on the page that emitted 80 % of their own budget, and not all of it.",
                latest(f"count({OF_RUN} >= {NEAR:g} < {OVER:g}) or vector(0)"),
                orange_from=1,
            ),
        ],
    ),
)

OWNERS = Row(
    "Of users, namespaces, accounts and labels",
    (6, [owned("grams", "grams", GRAMS, "")]),
    (6, [owned("kWh", "joules", KILOWATT_HOURS, JOULES_PER_KWH)]),
    (
        9,
        [
            graph(
                "Spent",
                RATIO,
                "Part of each budget that is spent in its period; it begins anew with the next. "
                "Drawn up to 200 %.",
                query(f"clamp_max(sum by (budget) ({SPENT}), {MOST_DRAWN})", "{{budget}}"),
            ),
            graph(
                "At the end of the period",
                RATIO,
                "Part of each budget that will be spent when its period ends, at the rate of the "
                "last hours. Above 100 % it will not last. Drawn up to 200 %.",
                query(f"clamp_max(sum by (budget) ({AHEAD}), {MOST_DRAWN})", "{{budget}}"),
            ),
        ],
    ),
)

RUNS = Row(
    "Of runs",
    (
        8,
        [
            table(
                "Budgets of runs",
                "Runs on the page that have a budget, over all their nodes, and what they will "
                "have emitted when their work is done.",
                {
                    "run_id": ("Run", ""),
                    "Value #A": ("Budget", GRAMS),
                    "Value #B": ("Emitted", GRAMS),
                    "Value #C": ("Spent", RATIO),
                    "Value #D": ("Forecast", GRAMS),
                },
                latest("max by (run_id) (emissions_run_budget_grams)"),
                latest("max by (run_id) (run_id:emissions_run_cumulative_carbon_grams:sum_max30d)"),
                latest(f"max by (run_id) ({OF_RUN})"),
                latest(
                    "sum by (run_id) "
                    "(max by (instance, run_id, job_id) (emissions_run_forecast_grams)) "
                    "and on (run_id) emissions_run_budget_grams"
                ),
                sort_by="Spent",
                links={"Run": RUN.of_field("Run")},
                red_from={"Spent": (NEAR, OVER)},
            ),
            graph(
                "Spent by runs",
                RATIO,
                "Part of its budget that each run emitted, drawn up to 200 %; the twenty with most "
                "of it.",
                query(f"clamp_max(topk(20, {OF_RUN}), {MOST_DRAWN})", "{{run_id}}"),
                link=RUN.of_label("run_id"),
            ),
        ],
    ),
)

dashboard = board(
    "Emissions: budgets",
    "emissions-budgets",
    "What is spent of budgets, what remains, and which will not last.",
    [NOW, OWNERS, RUNS],
    [
        variable(
            "budget",
            "Budget",
            "label_values(budget:emissions_budget_spent_per_limit:ratio, budget)",
        )
    ],
    [alerts()],
    begins="now-7d",
)
