"""The dashboard of inference services: emissions and energy per request and 1,000 tokens."""

from panels import RUN, Row, alerts, board, graph, latest, number, query, table, variable
from panels.units import GRAMS, JOULES, REQUESTS_PER_SECOND, TOKENS_PER_SECOND, WATTS

RUNS = 'run_id=~"$run"'
TOKENS = f"run_id:emissions_served_tokens:rate5m{{{RUNS}}}"
REQUESTS = f"run_id:emissions_served_requests:rate5m{{{RUNS}}}"
POWER = (
    f"sum by (run_id) (run_id:emissions_run_power_watts:sum{{{RUNS}}}) "
    f"and on (run_id) ({TOKENS} or {REQUESTS})"
)
OF_SERVERS = "over the last hour, from the counters of vLLM, TGI and Triton"


def ratio(quantity: str, unit: str) -> str:
    """Select a recorded ratio of each serving run."""
    return f"sum by (run_id) (run_id:emissions_run_{quantity}_per_{unit}:ratio_1h{{{RUNS}}})"


def mean(quantity: str, unit: str, weight: str) -> str:
    """Mean of a recorded ratio over the runs, weighted by their current rate."""
    weighted = f"sum({ratio(quantity, unit)} * on (run_id) sum by (run_id) ({weight}))"
    return f"{weighted} / (sum({weight} and on (run_id) {ratio(quantity, unit)}) > 0)"


NOW = Row(
    "",
    (
        4,
        [
            number(
                "All, per 1,000 tokens",
                GRAMS,
                f"Emissions of the serving runs per 1,000 generated tokens {OF_SERVERS}; "
                "mean weighted by tokens.",
                latest(mean("carbon_grams", "thousand_tokens", TOKENS)),
                nothing="none",
            ),
            number(
                "All, per request",
                GRAMS,
                f"Emissions per request {OF_SERVERS}; mean weighted by requests.",
                latest(mean("carbon_grams", "request", REQUESTS)),
                nothing="none",
            ),
            number(
                "All, J per 1,000 tokens",
                JOULES,
                f"Energy per 1,000 tokens {OF_SERVERS}; mean weighted by tokens.",
                latest(mean("energy_joules", "thousand_tokens", TOKENS)),
                nothing="none",
            ),
            number(
                "Tokens",
                TOKENS_PER_SECOND,
                "Tokens generated per second by the selected runs, averaged over five minutes.",
                latest(f"sum({TOKENS})"),
                nothing="none",
            ),
            number(
                "Requests",
                REQUESTS_PER_SECOND,
                "Requests answered per second, averaged over five minutes.",
                latest(f"sum({REQUESTS})"),
                nothing="none",
            ),
            number(
                "Power",
                WATTS,
                "Current power of the runs, including idle power of devices that they hold.",
                latest(f"sum({POWER})"),
                nothing="none",
            ),
        ],
    ),
)

COURSE = Row(
    "",
    (
        9,
        [
            graph(
                "Grams per 1,000 tokens",
                GRAMS,
                f"By run, {OF_SERVERS}.",
                query(ratio("carbon_grams", "thousand_tokens"), "{{run_id}}"),
                link=RUN.of_label("run_id"),
            ),
            graph(
                "Grams per request",
                GRAMS,
                f"By run, {OF_SERVERS}.",
                query(ratio("carbon_grams", "request"), "{{run_id}}"),
                link=RUN.of_label("run_id"),
            ),
        ],
    ),
    (
        8,
        [
            graph(
                "Tokens",
                TOKENS_PER_SECOND,
                "Tokens per second by run, averaged over five minutes.",
                query(f"sum by (run_id) ({TOKENS})", "{{run_id}}"),
                stacked=True,
            ),
            graph(
                "Requests",
                REQUESTS_PER_SECOND,
                "Requests per second by run, averaged over five minutes.",
                query(f"sum by (run_id) ({REQUESTS})", "{{run_id}}"),
                stacked=True,
            ),
            graph(
                "Power",
                WATTS,
                "Power of the serving runs, including idle power of devices that they hold.",
                query(POWER, "{{run_id}}"),
                stacked=True,
            ),
        ],
    ),
    (
        9,
        [
            table(
                "Servers",
                f"Emissions and energy of each serving run {OF_SERVERS}.",
                {
                    "run_id": ("Run", ""),
                    "Value #A": ("Per 1,000 tokens", GRAMS),
                    "Value #B": ("Per request", GRAMS),
                    "Value #C": ("J per 1,000", JOULES),
                    "Value #D": ("J per request", JOULES),
                },
                latest(ratio("carbon_grams", "thousand_tokens")),
                latest(ratio("carbon_grams", "request")),
                latest(ratio("energy_joules", "thousand_tokens")),
                latest(ratio("energy_joules", "request")),
                sort_by="Per 1,000 tokens",
                links={"Run": RUN.of_field("Run")},
            ),
            table(
                "By units of work counted by runs",
                "Over the last hour, per 1,000 units of work counted by the run itself, instead of "
                "by a server as on the left: all its emissions and energy, divided by each of its "
                "units.",
                {
                    "run_id": ("Run", ""),
                    "unit": ("Unit", ""),
                    "Value #A": ("Per 1,000", GRAMS),
                    "Value #B": ("J per 1,000", JOULES),
                },
                latest(
                    "1000 * sum by (run_id, unit) "
                    f"(run_id_unit:emissions_run_carbon_grams_per_unit:ratio_1h{{{RUNS}}})"
                ),
                latest(
                    "1000 * sum by (run_id, unit) "
                    f"(run_id_unit:emissions_run_energy_joules_per_unit:ratio_1h{{{RUNS}}})"
                ),
                sort_by="Per 1,000",
                links={"Run": RUN.of_field("Run")},
            ),
        ],
    ),
)

dashboard = board(
    "Emissions: serving",
    "emissions-serving",
    "Cost of inference: emissions and energy per request and per 1,000 tokens.",
    [NOW, COURSE],
    [
        variable(
            "run",
            "Run",
            'label_values({__name__=~"run_id(_unit)?:emissions_run_carbon_grams_per_.+:ratio_1h"}, '
            "run_id)",
            all_value="",
            has_all=True,
        )
    ],
    [alerts('run_id=~"$run"')],
    begins="now-6h",
)
