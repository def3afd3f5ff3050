"""The dashboard of a node, or of a few: what it draws, whose that is, and what it emits."""

from panels import (
    JOULES_PER_KWH,
    NODES,
    RUN,
    Row,
    alerts,
    board,
    gained,
    graph,
    latest,
    nodes,
    number,
    query,
    runs_begin,
    runs_end,
    short_id,
    table,
    top,
)
from panels.units import COUNT, DATE, GRAMS, GRAMS_PER_KWH, KILOWATT_HOURS, RATIO, SECONDS, WATTS

SHOWN = 20
"""Runs in a graph."""
DEVICE_ENERGY = "emissions_device_energy_joules_total"
DEVICE = "instance, device, id"
LINE = f"{DEVICE}, method, reason"
"""What counters of devices are told apart by: a node that is scraped twice is one node."""
HELD = "instance_run_id_job_id_device:emissions_run_held_idle_energy_joules:increase"


def over_range(counter: str, by: str = "") -> str:
    """What a counter of devices gained in the time shown."""
    return f"sum{by}(max by ({LINE}) (increase({counter}{{{NODES}}}[$__range])))"


def of_runs(quantity: str) -> str:
    """What each run used in the time shown; see deploy/prometheus/rules/runs.yaml."""
    rule = f"instance_run_id_job_id_device_id:emissions_run_{quantity}:increase"
    return f"sum by (run_id, job_id) (sum_over_time({rule}{{{NODES}}}[$__range]))"


NOW = Row(
    "",
    (
        4,
        [
            number(
                "Power",
                WATTS,
                "What all devices of the chosen nodes draw now.",
                latest(f"sum(max by ({DEVICE}) (emissions_device_power_watts{{{NODES}}}))"),
            ),
            number(
                "Energy",
                KILOWATT_HOURS,
                "What their GPUs, processors and memory used in the time shown. Disks, fans and "
                "power supplies are not counted.",
                latest(f"{over_range(DEVICE_ENERGY)} / {JOULES_PER_KWH}"),
            ),
            number(
                "Emissions",
                GRAMS,
                "CO2 equivalent of that energy, PUE included.",
                latest(over_range("emissions_device_carbon_grams_total")),
            ),
            number(
                "Grid intensity",
                GRAMS_PER_KWH,
                "The intensity in force now that grams are counted with, without PUE; the mean "
                "where nodes have different ones.",
                latest(
                    f"avg(emissions_grid_intensity_grams_per_kwh{{{NODES},"
                    'signal="average",accounting="location"})'
                ),
            ),
            number(
                "Charged to runs",
                RATIO,
                "The part of the energy in the time shown that runs used; the rest has a reason, "
                "shown below.",
                latest(
                    f"{over_range('emissions_attributed_energy_joules_total')} / "
                    f"{over_range(DEVICE_ENERGY)}"
                ),
            ),
            number(
                "Held idle",
                RATIO,
                "The part of the energy in the time shown that devices used which runs held and "
                "did nothing with. Runs pay for it.",
                latest(f"{gained(HELD, where=NODES)} / {over_range(DEVICE_ENERGY)}"),
            ),
            number(
                "Estimated",
                RATIO,
                "The part of the energy in the time shown that was not measured: it is that of a "
                "model of the hardware.",
                latest(
                    f"(sum(max by ({LINE}) (increase({DEVICE_ENERGY}"
                    f'{{{NODES},method="estimated"}}[$__range]))) or vector(0)) / '
                    f"{over_range(DEVICE_ENERGY)}"
                ),
            ),
            number(
                "Devices not read",
                COUNT,
                "Devices that could not be read at the last tick.",
                latest(
                    f"count(max by ({DEVICE}) (emissions_device_up{{{NODES}}}) == 0) or vector(0)"
                ),
                orange_from=1,
            ),
        ],
    ),
)

SAMPLE = Row(
    "Sample: what the devices draw",
    (
        9,
        [
            graph(
                "Power by device",
                WATTS,
                "Each device of the chosen nodes. A gap means that the device could not be read.",
                query(
                    short_id(f"max by ({DEVICE}) (emissions_device_power_watts{{{NODES}}})"),
                    "{{instance}} {{short}}",
                ),
                stacked=True,
            ),
            graph(
                "Utilization of GPUs",
                RATIO,
                "Part of the time in which anything ran on the GPU, as the driver tells it; not "
                "how much of it was used. There is none in MIG mode.",
                query(
                    short_id(
                        "max by (instance, id) "
                        f'(emissions_device_utilization_ratio{{{NODES},device="gpu"}})'
                    ),
                    "{{instance}} {{short}}",
                ),
            ),
        ],
    ),
    (
        8,
        [
            table(
                "Energy and emissions by device",
                "What each device used in the time shown.",
                {
                    "instance": ("Node", ""),
                    "device": ("Device", ""),
                    "id": ("Id", ""),
                    "Value #A": ("Energy", KILOWATT_HOURS),
                    "Value #B": ("Emissions", GRAMS),
                },
                latest(
                    f"{over_range(DEVICE_ENERGY, ' by (instance, device, id) ')} / {JOULES_PER_KWH}"
                ),
                latest(
                    over_range("emissions_device_carbon_grams_total", " by (instance, device, id) ")
                ),
                sort_by="Energy",
            ),
        ],
    ),
)

RUN_POWER = f"emissions_run_power_watts{{{NODES}}}"
POWER_OF_RUNS = f"max by ({DEVICE}, run_id, job_id) ({RUN_POWER})"
ATTRIBUTE = Row(
    "Attribute: who draws it",
    (
        9,
        [
            graph(
                "Power by run",
                WATTS,
                f"The {SHOWN} runs that drew most in the time shown, and under their reasons what "
                "no run used. Where there are no other runs, together they are the power of the "
                "devices.",
                query(
                    top(
                        SHOWN,
                        f"sum by (run_id) ({POWER_OF_RUNS})",
                        "run_id",
                        f"sum by (run_id) (sum_over_time({RUN_POWER}[$__range] @ end()))",
                    ),
                    "{{run_id}}",
                ),
                query(
                    "sum by (reason) (max by "
                    f"({DEVICE}, reason) (emissions_unattributed_power_watts{{{NODES}}}))",
                    "no run: {{reason}}",
                ),
                stacked=True,
            ),
            table(
                "Unattributed, by reason",
                "Energy in the time shown that was charged to no run, and why: idle is what the "
                "machine draws doing nothing, unallocated what GPUs draw that nobody holds, other "
                "is work outside runs, unknown_process work on GPUs of nobody who is known, "
                "restart is what was used while the exporter was down and cannot be told apart.",
                {
                    "reason": ("Reason", ""),
                    "Value #A": ("Energy", KILOWATT_HOURS),
                    "Value #B": ("Emissions", GRAMS),
                },
                latest(
                    over_range("emissions_unattributed_energy_joules_total", " by (reason) ")
                    + f" / {JOULES_PER_KWH}"
                ),
                latest(over_range("emissions_unattributed_carbon_grams_total", " by (reason) ")),
                sort_by="Energy",
            ),
        ],
    ),
)

CONVERT = Row(
    "Convert: from energy to grams",
    (
        7,
        [
            graph(
                "Grid intensity",
                GRAMS_PER_KWH,
                "Grams of CO2 equivalent per kilowatt hour, without PUE. While there is none, "
                "energy is counted and grams stand still.",
                query(
                    "max by (grid_zone, signal, basis, accounting) "
                    f"(emissions_grid_intensity_grams_per_kwh{{{NODES}}})",
                    "{{grid_zone}}, {{signal}}, {{basis}}, {{accounting}}",
                ),
            ),
        ],
    ),
    (
        5,
        [
            table(
                "Where the intensity comes from",
                "The source in force on the chosen nodes, its age, and its place in the chain of "
                "sources: 0 is what was asked for.",
                {
                    "grid_zone": ("Zone", ""),
                    "source": ("Source", ""),
                    "signal": ("Signal", ""),
                    "basis": ("Basis", ""),
                    "accounting": ("Accounting", ""),
                    "estimated": ("Estimated", ""),
                    "Value #B": ("Age", SECONDS),
                    "Value #C": ("Step", COUNT),
                },
                latest(
                    "max by (grid_zone, signal, basis, accounting, source, estimated) "
                    f"(emissions_grid_intensity_info{{{NODES}}})"
                ),
                latest(
                    "max by (grid_zone, signal, basis, accounting) "
                    f"(emissions_grid_intensity_age_seconds{{{NODES}}})"
                ),
                latest(
                    "max by (grid_zone, signal, basis, accounting) "
                    f"(emissions_grid_intensity_fallback_step{{{NODES}}})"
                ),
            ),
        ],
    ),
)

ACCOUNT = Row(
    "Account: what each run used",
    (
        10,
        [
            table(
                "Runs",
                "Every run that used energy in the time shown. Needs the recording rules. The "
                "ledger of each node, under /api/v1/runs, is exact.",
                {
                    "run_id": ("Run", ""),
                    "job_id": ("Job", ""),
                    "run_name": ("Name", ""),
                    "user": ("User", ""),
                    "Value #A": ("Energy", KILOWATT_HOURS),
                    "Value #B": ("Emissions", GRAMS),
                    "Value #C": ("Power now", WATTS),
                    "Value #D": ("Budget", GRAMS),
                    "Value #E": ("Began", DATE),
                },
                latest(f"{of_runs('energy_joules')} / {JOULES_PER_KWH}"),
                latest(of_runs("carbon_grams")),
                latest(f"sum by (run_id, job_id) ({POWER_OF_RUNS})"),
                latest(
                    "max by (run_id, job_id) "
                    f"(last_over_time(emissions_run_budget_grams{{{NODES}}}[$__range]))"
                ),
                latest(
                    "1000 * min by (run_id, job_id) "
                    f"(last_over_time(emissions_run_start_time_seconds{{{NODES}}}[$__range]))"
                ),
                latest(
                    "max by (run_id, job_id, run_name, user) "
                    f"(last_over_time(emissions_run_info{{{NODES}}}[$__range]))"
                ),
                sort_by="Energy",
                links={"Run": RUN.of_field("Run")},
            ),
        ],
    ),
)

dashboard = board(
    "Emissions: nodes",
    "emissions-nodes",
    "Energy and emissions of the chosen nodes, and of every run on them.",
    [NOW, SAMPLE, ATTRIBUTE, CONVERT, ACCOUNT],
    [nodes(has_all=False)],
    [runs_begin(NODES), runs_end(NODES), alerts(NODES)],
)
