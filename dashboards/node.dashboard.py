"""The dashboard of one or a few nodes: power, attribution to runs, and emissions."""

from panels import (
    JOULES_PER_KWH,
    NODES,
    RUN,
    RUN_BY,
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
"""Runs shown in a graph."""
DEVICE_ENERGY = "emissions_device_energy_joules_total"
DEVICE = "instance, device, id"
LINE = f"{DEVICE}, method, reason"
"""Labels that identify a device counter, so that a node that is scraped twice counts once."""
HELD = "instance_run_id_job_id_device:emissions_run_held_idle_energy_joules:increase"


def over_range(counter: str, by: str = "") -> str:
    """Increase of a device counter in the time range."""
    return f"sum{by}(max by ({LINE}) (increase({counter}{{{NODES}}}[$__range])))"


def of_runs(quantity: str) -> str:
    """Usage of each run in the time range; see deploy/prometheus/rules/runs.yaml."""
    rule = f"instance_run_id_job_id_device_id:emissions_run_{quantity}:increase"
    return f"sum by ({RUN_BY}) (sum_over_time({rule}{{{NODES}}}[$__range]))"


NOW = Row(
    "",
    (
        4,
        [
            number(
                "Power",
                WATTS,
                "Current power of all devices of the selected nodes.",
                latest(f"sum(max by ({DEVICE}) (emissions_device_power_watts{{{NODES}}}))"),
            ),
            number(
                "Energy",
                KILOWATT_HOURS,
                "Energy of their GPUs, CPUs and memory in the selected time range. Disks, fans and "
                "power supplies are not included.",
                latest(f"{over_range(DEVICE_ENERGY)} / {JOULES_PER_KWH}"),
            ),
            number(
                "Emissions",
                GRAMS,
                "CO2 equivalent of that energy, including PUE.",
                latest(over_range("emissions_device_carbon_grams_total")),
            ),
            number(
                "Grid intensity",
                GRAMS_PER_KWH,
                "Carbon intensity in effect by which emissions are calculated, excluding PUE; mean "
                "over the nodes.",
                latest(
                    f"avg(emissions_grid_intensity_grams_per_kwh{{{NODES},"
                    'signal="average",accounting="location"})'
                ),
            ),
            number(
                "Attributed",
                RATIO,
                "Share of energy in the selected time range attributed to runs; the rest is shown "
                "below by reason.",
                latest(
                    f"{over_range('emissions_attributed_energy_joules_total')} / "
                    f"{over_range(DEVICE_ENERGY)}"
                ),
            ),
            number(
                "Held idle",
                RATIO,
                "Share of energy in the selected time range used by idle devices that runs held. "
                "It is attributed to these runs.",
                latest(f"{gained(HELD, where=NODES)} / {over_range(DEVICE_ENERGY)}"),
            ),
            number(
                "Estimated",
                RATIO,
                "Share of energy in the selected time range that was not measured but estimated by "
                "a power model.",
                latest(
                    f"(sum(max by ({LINE}) (increase({DEVICE_ENERGY}"
                    f'{{{NODES},method="estimated"}}[$__range]))) or vector(0)) / '
                    f"{over_range(DEVICE_ENERGY)}"
                ),
            ),
            number(
                "Devices not read",
                COUNT,
                "Number of devices whose last reading failed.",
                latest(
                    f"count(max by ({DEVICE}) (emissions_device_up{{{NODES}}}) == 0) or vector(0)"
                ),
                orange_from=1,
            ),
        ],
    ),
)

SAMPLE = Row(
    "Sample: power of the devices",
    (
        9,
        [
            graph(
                "Power by device",
                WATTS,
                "Power of each device of the selected nodes. A gap means that the device could not "
                "be read.",
                query(
                    short_id(f"max by ({DEVICE}) (emissions_device_power_watts{{{NODES}}})"),
                    "{{instance}} {{short}}",
                ),
                stacked=True,
            ),
            graph(
                "Utilization of GPUs",
                RATIO,
                "As the driver reports it: for NVIDIA the fraction of time in which at least one "
                "kernel ran, not the fraction of the GPU in use; for AMD the activity of the "
                "compute units, for Intel that of the engines. Not available in MIG mode.",
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
                "Energy and emissions of each device in the selected time range.",
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
POWER_OF_RUNS = f"max by ({DEVICE}, {RUN_BY}) ({RUN_POWER})"
ATTRIBUTE = Row(
    "Attribute: power of runs",
    (
        9,
        [
            graph(
                "Power by run",
                WATTS,
                f"The {SHOWN} runs with the highest power in the selected time range, and "
                "unattributed power by reason. If there are no other runs, their sum is the power "
                "of the devices.",
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
                    "unattributed: {{reason}}",
                ),
                stacked=True,
            ),
            table(
                "Unattributed, by reason",
                "Energy in the selected time range not attributed to any run, by reason. idle: "
                "idle power of CPUs and memory. unallocated: GPUs that no run holds. other: "
                "activity outside runs. unknown_process: GPU processes that belong to no run or "
                "are not visible. restart: energy counted while the exporter was not running.",
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
                "Grams of CO2 equivalent per kilowatt hour, excluding PUE. While no intensity is "
                "available, energy is counted and emissions do not increase.",
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
                "Sources of carbon intensity",
                "Source in effect on the selected nodes, its age, and its position in the source "
                "chain: 0 is the preferred source.",
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
    "Account: usage of runs",
    (
        10,
        [
            table(
                "Runs",
                "All runs that used energy in the selected time range. Requires the recording "
                "rules. The ledger of each node, at /api/v1/runs, is exact.",
                {
                    "run_id": ("Run", ""),
                    "job_id": ("Job", ""),
                    "run_name": ("Name", ""),
                    "user": ("User", ""),
                    "Value #A": ("Energy", KILOWATT_HOURS),
                    "Value #B": ("Emissions", GRAMS),
                    "Value #C": ("Power now", WATTS),
                    "Value #D": ("Budget", GRAMS),
                    "Value #E": ("Started", DATE),
                },
                latest(f"{of_runs('energy_joules')} / {JOULES_PER_KWH}"),
                latest(of_runs("carbon_grams")),
                latest(f"sum by ({RUN_BY}) ({POWER_OF_RUNS})"),
                latest(
                    f"max by ({RUN_BY}) "
                    f"(last_over_time(emissions_run_budget_grams{{{NODES}}}[$__range]))"
                ),
                latest(
                    f"1000 * min by ({RUN_BY}) "
                    f"(last_over_time(emissions_run_start_time_seconds{{{NODES}}}[$__range]))"
                ),
                latest(
                    f"max by ({RUN_BY}, run_name, user) "
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
    "Energy and emissions of the selected nodes, and of every run on them.",
    [NOW, SAMPLE, ATTRIBUTE, CONVERT, ACCOUNT],
    [nodes(has_all=False)],
    [runs_begin(NODES), runs_end(NODES), alerts(NODES)],
)
