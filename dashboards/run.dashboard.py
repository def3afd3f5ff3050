"""The dashboard of one run, or of those that were chosen by user, job or pod."""

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
from panels.forecasts import EXPECTED, LEAST, MOST, OF_A_RUN, band, bound, expected
from panels.queries import OWNED
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
    """A series that was there in the time shown."""
    return f"last_over_time({series}{{{where}}}[$__range])"


# What is recorded of owners has no label workload_pod: it matches only where all pods are chosen.
CHOSEN = (
    f"query_result(count by (run_id) ({seen(OWNED, WHOSE)} and on ({OF_A_RUN}) "
    f"({seen('emissions_run_member_info', POD)} or {seen(OWNED, f'{WHOSE},{POD}')})))"
)


def total(gauge: str, by: str = "", labels: str = f"{OF_A_RUN}, device, id") -> str:
    """The ledger's totals at the end of the time shown, over all nodes."""
    grouping = f" by ({by}) " if by else ""
    return f"sum{grouping}(max by ({labels}) (max_over_time({gauge}{{{RUNS}}}[$__range])))"


ENERGY = total("emissions_run_cumulative_energy_joules")
EMITTED = total("emissions_run_cumulative_carbon_grams", labels=OF_A_RUN)
HELD = total("emissions_run_held_idle_energy_joules_total", labels=f"{OF_A_RUN}, device")
COUNTED = total("emissions_run_energy_joules_total")


def rate(counter: str, labels: str) -> str:
    """Watts of a counter of joules."""
    return f"sum(max by ({labels}) (rate({counter}{{{RUNS}}}[$__rate_interval])))"


def foretold(quantity: str, over_nodes: str = "sum", factor: str = "") -> list[core.Target]:
    """What each run expects, at least and at most."""
    how = (quantity, RUNS, "run_id, job_id", over_nodes)
    exprs = (expected(*how), bound("low", *how), bound("high", *how))
    return [latest(f"({expr}){factor}") for expr in exprs]


HELD_RATE = rate("emissions_run_held_idle_energy_joules_total", f"{OF_A_RUN}, device")
BUDGET = f"max by (run_id) (last_over_time(emissions_run_budget_grams{{{RUNS}}}[$__range]))"

NOW = Row(
    "",
    (
        4,
        [
            number(
                "Power",
                WATTS,
                "What the run draws now on all its nodes, idle power of what it holds included.",
                latest(
                    f"sum(max by ({OF_A_RUN}, device, id) (emissions_run_power_watts{{{RUNS}}}))"
                ),
                nothing="ended",
            ),
            number(
                "Energy",
                KILOWATT_HOURS,
                "All that the run used since it first began, by the ledgers of its nodes. Nodes "
                "that left it before the time shown are not in it.",
                latest(f"{ENERGY} / {JOULES_PER_KWH}"),
            ),
            number(
                "Emissions",
                GRAMS,
                "CO2 equivalent of that energy, PUE included.",
                latest(EMITTED),
            ),
            number(
                "Grams per kWh",
                GRAMS_PER_KWH,
                "Its emissions over its energy: the mean intensity of what it used, PUE included.",
                latest(f"{EMITTED} / ({ENERGY} / {JOULES_PER_KWH} > 0)"),
            ),
            number(
                "Held idle",
                RATIO,
                "The part of its energy that devices used which it held and did nothing with.",
                latest(f"{HELD} / ({COUNTED} > 0)"),
            ),
            number(
                "Forecast",
                GRAMS,
                "What it will have emitted when its work is done, if it goes on as it did so far. "
                "Only of runs that say how far they are.",
                latest(expected("grams", RUNS)),
                nothing="none",
            ),
            number(
                "Of its budget",
                RATIO,
                "Emissions over the budget of the run; of several runs, over all their budgets.",
                latest(
                    f"sum(max by ({OF_A_RUN}) (max_over_time("
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
                "Nodes on which it was seen in the time shown.",
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
                "What the run draws by GPU, and of processors and memory. The kernel does not say "
                "which socket a process used.",
                query(
                    short_id(
                        "sum by (instance, device, id) (max by "
                        f"({OF_A_RUN}, device, id) (emissions_run_power_watts{{{RUNS}}}))"
                    ),
                    "{{instance}} {{device}} {{short}}",
                ),
                stacked=True,
                link=NODE.of_label("instance"),
            ),
            graph(
                "Emissions, forecast and budget",
                GRAMS,
                "What it emitted since it first began, nodes that have left it included; what it "
                "will have emitted at its end, where it says how far it is; and its budget. Of "
                "several runs their sums. In the area around the forecast end 95 of 100 runs that "
                "go on as unevenly; it is not there until that can be told.",
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
                "At work and idle",
                WATTS,
                "Its power: what did work, and what devices drew that it held and did nothing "
                "with.",
                query(HELD_RATE, "held idle"),
                query(
                    f"{rate('emissions_run_energy_joules_total', f'{OF_A_RUN}, device, id')} - "
                    f"{HELD_RATE}",
                    "at work",
                ),
                stacked=True,
            ),
            graph(
                "Grid intensity where it runs",
                GRAMS_PER_KWH,
                "In force on its nodes, without PUE. Grams are counted with the one of signal "
                "average by location.",
                query(
                    "max by (grid_zone, signal, basis, accounting) "
                    "(emissions_grid_intensity_grams_per_kwh and on (instance) "
                    f"emissions_run_start_time_seconds{{{RUNS}}})",
                    "{{grid_zone}}, {{signal}}, {{basis}}, {{accounting}}",
                ),
            ),
            graph(
                "What it counts",
                PER_SECOND,
                "Units of its own that the run counts: tokens, samples, requests.",
                query(
                    f"sum by (run_id, unit) (max by ({OF_A_RUN}, unit) "
                    f"(rate(emissions_run_units_total{{{RUNS}}}[$__rate_interval])))",
                    "{{run_id}} {{unit}}",
                ),
            ),
        ],
    ),
)

WHAT = Row(
    "What it is",
    (
        8,
        [
            table(
                "Energy and emissions by device",
                "What the run used on each node since its counters there began; GPUs one by one.",
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
                "Pods and containers that the runs had in the time shown, on Kubernetes.",
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
                "The chosen runs: whose they are, when they began, and when they ended.",
                {
                    "run_id": ("Run", ""),
                    "job_id": ("Job", ""),
                    "run_name": ("Name", ""),
                    "user": ("User", ""),
                    "workload_namespace": ("Namespace", ""),
                    "account": ("Account", ""),
                    "origin": ("Known by", ""),
                    "Value #B": ("Began", DATE),
                    "Value #C": ("Ended", DATE),
                },
                latest(
                    "max by (run_id, job_id, run_name, user, workload_namespace, account, origin) "
                    f"(last_over_time(emissions_run_info{{{RUNS}}}[$__range]))"
                ),
                latest(
                    "1000 * min by (run_id, job_id) "
                    f"(last_over_time(emissions_run_start_time_seconds{{{RUNS}}}[$__range]))"
                ),
                latest(
                    "1000 * max by (run_id, job_id) "
                    f"(last_over_time(emissions_run_end_time_seconds{{{RUNS}}}[$__range])) "
                    f"unless on (run_id, job_id) (emissions_run_start_time_seconds{{{RUNS}}} "
                    f"unless on ({OF_A_RUN}) emissions_run_end_time_seconds)"
                ),
                sort_by="Began",
            ),
        ],
    ),
    (
        6,
        [
            table(
                "Forecast of each run",
                "What it will have emitted and used when its work is done, and when that will be. "
                "Between least and most end 95 of 100 runs that go on as unevenly. Only of "
                "runs that say how far they are, over the nodes on which they do.",
                {
                    "run_id": ("Run", ""),
                    "job_id": ("Job", ""),
                    "Value #A": ("Emissions", GRAMS),
                    "Value #B": ("Least emissions", GRAMS),
                    "Value #C": ("Most emissions", GRAMS),
                    "Value #D": ("Energy", KILOWATT_HOURS),
                    "Value #E": ("Least energy", KILOWATT_HOURS),
                    "Value #F": ("Most energy", KILOWATT_HOURS),
                    "Value #G": ("Done", DATE),
                    "Value #H": ("Earliest", DATE),
                    "Value #I": ("Latest", DATE),
                },
                *foretold("grams"),
                *foretold("energy_joules", factor=f" / {JOULES_PER_KWH}"),
                *foretold("end_time_seconds", "max", " * 1000"),
                sort_by="Emissions",
            ),
        ],
    ),
)

dashboard = board(
    "Emissions: run",
    "emissions-run",
    "One run over all its nodes: energy, emissions, what was idle, forecast and budget.",
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
