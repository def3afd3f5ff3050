"""The dashboard of one run, or of runs selected by user, job or pod."""

from grafanalib import core
from panels import (
    JOULES_PER_KWH,
    NODE,
    Row,
    alerts,
    board,
    graph,
    latest,
    number,
    query,
    runs_begin,
    runs_end,
    short_id,
    table,
    variable,
)
from panels.forecasts import EXPECTED, LEAST, MOST, band, bound, expected
from panels.queries import OWNED, RUN_BY, RUN_BY_NODE
from panels.units import (
    COUNT,
    DATE,
    GRAMS,
    GRAMS_PER_KWH,
    KILOWATT_HOURS,
    PER_SECOND,
    RATIO,
    WATTS,
)

RUNS = 'run_id=~"$run",job_id=~"$job_id"'
WHOSE = 'user=~"$user",workload_namespace=~"$namespace",job_id=~"$job_id"'
POD = 'workload_pod=~"$pod"'


def seen(series: str, where: str) -> str:
    """Select a series that existed in the time range."""
    return f"last_over_time({series}{{{where}}}[$__range])"


# Recorded owner series have no label workload_pod: they match only if all pods are selected.
CHOSEN = (
    f"query_result(count by (run_id) ({seen(OWNED, WHOSE)} and on ({RUN_BY_NODE}) "
    f"({seen('emissions_run_member_info', POD)} or {seen(OWNED, f'{WHOSE},{POD}')})))"
)


def total(gauge: str, by: str = "", labels: str = f"{RUN_BY_NODE}, device, id") -> str:
    """The ledger's totals at the end of the time range, over all nodes."""
    grouping = f" by ({by}) " if by else ""
    return f"sum{grouping}(max by ({labels}) (max_over_time({gauge}{{{RUNS}}}[$__range])))"


ENERGY = total("emissions_run_cumulative_energy_joules")
EMITTED = total("emissions_run_cumulative_carbon_grams", labels=RUN_BY_NODE)
HELD = total("emissions_run_held_idle_energy_joules_total", labels=f"{RUN_BY_NODE}, device")
COUNTED = total("emissions_run_energy_joules_total")


def rate(counter: str, labels: str) -> str:
    """Power in watts from a counter of joules."""
    return f"sum(max by ({labels}) (rate({counter}{{{RUNS}}}[$__rate_interval])))"


def forecasts(quantity: str, over_nodes: str = "sum", factor: str = "") -> list[core.Target]:
    """Forecast of each run, with its lower and upper bound."""
    arguments = (quantity, RUNS, RUN_BY, over_nodes)
    exprs = (expected(*arguments), bound("low", *arguments), bound("high", *arguments))
    return [latest(f"({expr}){factor}") for expr in exprs]


HELD_RATE = rate("emissions_run_held_idle_energy_joules_total", f"{RUN_BY_NODE}, device")
BUDGET = f"max by (run_id) (last_over_time(emissions_run_budget_grams{{{RUNS}}}[$__range]))"

NOW = Row(
    "",
    (
        4,
        [
            number(
                "Power",
                WATTS,
                "Current power of the run on all its nodes, including idle power of devices that "
                "it holds.",
                latest(
                    f"sum(max by ({RUN_BY_NODE}, device, id) (emissions_run_power_watts{{{RUNS}}}))"
                ),
                nothing="ended",
            ),
            number(
                "Energy",
                KILOWATT_HOURS,
                "Energy of the run since its first start, from the ledgers of its nodes. Nodes "
                "that left the run before the selected time range are not included.",
                latest(f"{ENERGY} / {JOULES_PER_KWH}"),
            ),
            number(
                "Emissions",
                GRAMS,
                "CO2 equivalent of that energy, including PUE.",
                latest(EMITTED),
            ),
            number(
                "Grams per kWh",
                GRAMS_PER_KWH,
                "Emissions divided by energy: the mean carbon intensity, weighted by energy, "
                "including PUE.",
                latest(f"{EMITTED} / ({ENERGY} / {JOULES_PER_KWH} > 0)"),
            ),
            number(
                "Held idle",
                RATIO,
                "Share of its energy used by idle devices that it held.",
                latest(f"{HELD} / ({COUNTED} > 0)"),
            ),
            number(
                "Forecast",
                GRAMS,
                "Forecast emissions at completion if the run continues as before. Only for runs "
                "that report progress.",
                latest(expected("grams", RUNS)),
                nothing="none",
            ),
            number(
                "Budget used",
                RATIO,
                "Emissions divided by the budget of the run; for several runs, by the sum of their "
                "budgets.",
                latest(
                    f"sum(max by ({RUN_BY_NODE}) (max_over_time("
                    f"emissions_run_cumulative_carbon_grams{{{RUNS}}}[$__range])) "
                    f"and on (run_id) {BUDGET}) / sum({BUDGET})"
                ),
                orange_from=0.8,
                red_from=1,
                nothing="no budget",
            ),
            number(
                "Nodes",
                COUNT,
                "Number of nodes on which the run was active in the selected time range.",
                latest(
                    "count(count by (instance) "
                    f"(last_over_time(emissions_run_start_time_seconds{{{RUNS}}}[$__range])))"
                ),
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
                "Power by device",
                WATTS,
                "Power of the run by GPU, and for CPUs and memory. The kernel does not report "
                "which socket a process used.",
                query(
                    short_id(
                        "sum by (instance, device, id) (max by "
                        f"({RUN_BY_NODE}, device, id) (emissions_run_power_watts{{{RUNS}}}))"
                    ),
                    "{{instance}} {{device}} {{short}}",
                ),
                stacked=True,
                link=NODE.of_label("instance"),
            ),
            graph(
                "Emissions, forecast and budget",
                GRAMS,
                "Emissions since the first start, including nodes that left the run; forecast "
                "emissions at completion, if the run reports progress; and the budget. For several "
                "runs, their sums. The area around the forecast is its 95% prediction interval; it "
                "is absent until it can be calculated.",
                query(EMITTED, "emitted"),
                query(expected("grams", RUNS), EXPECTED),
                query(
                    f"sum(max by (run_id) (emissions_run_budget_grams{{{RUNS}}}))",
                    "budget",
                ),
                query(bound("low", "grams", RUNS), LEAST),
                query(bound("high", "grams", RUNS), MOST),
                overrides=band(),
            ),
        ],
    ),
    (
        8,
        [
            graph(
                "Active and held idle",
                WATTS,
                "Power of the run: active, and of idle devices that it held.",
                query(HELD_RATE, "held idle"),
                query(
                    f"{rate('emissions_run_energy_joules_total', f'{RUN_BY_NODE}, device, id')} - "
                    f"{HELD_RATE}",
                    "active",
                ),
                stacked=True,
            ),
            graph(
                "Grid intensity on its nodes",
                GRAMS_PER_KWH,
                "Carbon intensity in effect on its nodes, excluding PUE. Emissions are calculated "
                "with the average, location-based intensity.",
                query(
                    "max by (grid_zone, signal, basis, accounting) "
                    "(emissions_grid_intensity_grams_per_kwh and on (instance) "
                    f"emissions_run_start_time_seconds{{{RUNS}}})",
                    "{{grid_zone}}, {{signal}}, {{basis}}, {{accounting}}",
                ),
            ),
            graph(
                "Units of work",
                PER_SECOND,
                "Units of work counted by the run: tokens, samples, requests.",
                query(
                    f"sum by (run_id, unit) (max by ({RUN_BY_NODE}, unit) "
                    f"(rate(emissions_run_units_total{{{RUNS}}}[$__rate_interval])))",
                    "{{run_id}} {{unit}}",
                ),
            ),
        ],
    ),
)

WHAT = Row(
    "Details",
    (
        8,
        [
            table(
                "Energy and emissions by device",
                "Usage of the run on each node since its counters there started; each GPU "
                "separately.",
                {
                    "instance": ("Node", ""),
                    "device": ("Device", ""),
                    "id": ("Id", ""),
                    "Value #A": ("Energy", KILOWATT_HOURS),
                    "Value #B": ("Emissions", GRAMS),
                },
                latest(
                    f"{total('emissions_run_energy_joules_total', 'instance, device, id')} "
                    f"/ {JOULES_PER_KWH}"
                ),
                latest(total("emissions_run_carbon_grams_total", "instance, device, id")),
                sort_by="Energy",
                links={"Node": NODE.of_field("Node")},
            ),
            table(
                "Pods",
                "Kubernetes pods and containers of the runs in the selected time range.",
                {
                    "run_id": ("Run", ""),
                    "instance": ("Node", ""),
                    "workload_pod": ("Pod", ""),
                    "workload_container": ("Container", ""),
                },
                latest(
                    "max by (run_id, instance, workload_pod, workload_container) "
                    f"(last_over_time(emissions_run_member_info{{{RUNS}}}[$__range]))"
                ),
                links={"Node": NODE.of_field("Node")},
            ),
        ],
    ),
    (
        6,
        [
            table(
                "Runs",
                "The selected runs: owner, start and end.",
                {
                    "run_id": ("Run", ""),
                    "job_id": ("Job", ""),
                    "run_name": ("Name", ""),
                    "user": ("User", ""),
                    "workload_namespace": ("Namespace", ""),
                    "account": ("Account", ""),
                    "origin": ("Origin", ""),
                    "Value #B": ("Started", DATE),
                    "Value #C": ("Ended", DATE),
                },
                latest(
                    f"max by ({RUN_BY}, run_name, user, workload_namespace, account, origin) "
                    f"(last_over_time(emissions_run_info{{{RUNS}}}[$__range]))"
                ),
                latest(
                    f"1000 * min by ({RUN_BY}) "
                    f"(last_over_time(emissions_run_start_time_seconds{{{RUNS}}}[$__range]))"
                ),
                latest(
                    f"1000 * max by ({RUN_BY}) "
                    f"(last_over_time(emissions_run_end_time_seconds{{{RUNS}}}[$__range])) "
                    f"unless on ({RUN_BY}) (emissions_run_start_time_seconds{{{RUNS}}} "
                    f"unless on ({RUN_BY_NODE}) emissions_run_end_time_seconds)"
                ),
                sort_by="Started",
            ),
        ],
    ),
    (
        6,
        [
            table(
                "Forecast of each run",
                "Forecast emissions, energy and end of the run. The minimum and maximum bound the "
                "95% prediction interval. Only for runs that report progress, over the nodes on "
                "which they do.",
                {
                    "run_id": ("Run", ""),
                    "job_id": ("Job", ""),
                    "Value #A": ("Emissions", GRAMS),
                    "Value #B": ("Min. emissions", GRAMS),
                    "Value #C": ("Max. emissions", GRAMS),
                    "Value #D": ("Energy", KILOWATT_HOURS),
                    "Value #E": ("Min. energy", KILOWATT_HOURS),
                    "Value #F": ("Max. energy", KILOWATT_HOURS),
                    "Value #G": ("Done", DATE),
                    "Value #H": ("Earliest", DATE),
                    "Value #I": ("Latest", DATE),
                },
                *forecasts("grams"),
                *forecasts("energy_joules", factor=f" / {JOULES_PER_KWH}"),
                *forecasts("end_time_seconds", "max", " * 1000"),
                sort_by="Emissions",
            ),
        ],
    ),
)

dashboard = board(
    "Emissions: run",
    "emissions-run",
    "One run over all its nodes: energy, emissions, held idle energy, forecast and budget.",
    [NOW, COURSE, WHAT],
    [
        variable("user", "User", "label_values(emissions_run_info, user)"),
        variable("namespace", "Namespace", "label_values(emissions_run_info, workload_namespace)"),
        variable(
            "job_id",
            "Job",
            'label_values(emissions_run_info{user=~"$user",workload_namespace=~"$namespace"}, '
            "job_id)",
        ),
        variable("pod", "Pod", "label_values(emissions_run_member_info, workload_pod)"),
        variable("run", "Run", CHOSEN, regex='/run_id="([^"]+)"/', all_value=""),
    ],
    [runs_begin(RUNS), runs_end(RUNS), alerts('run_id=~"$run"')],
)
