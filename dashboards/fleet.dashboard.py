"""The dashboard of all nodes: energy and emissions by owner, by location and over time."""

from grafanalib import core
from panels import (
    ALERTS,
    JOULES_PER_KWH,
    LEADERBOARD,
    NODE,
    Row,
    alerts,
    bars,
    board,
    gained,
    graph,
    latest,
    named,
    number,
    query,
    table,
    top,
)
from panels.queries import EVALUATION, NO_USER
from panels.units import COUNT, GRAMS, GRAMS_PER_KWH, KILOWATT_HOURS, RATIO, WATTS

SHOWN = 10
"""Owners shown in a graph; tables show more."""
LISTED = 50
ENERGY = "cluster:emissions_device_energy_joules:increase"
GRAMS_OF_ALL = "cluster:emissions_device_carbon_grams:increase"
RATE = "cluster:emissions_device_energy_joules:rate5m"
UNATTRIBUTED = "reason:emissions_unattributed_energy_joules:rate5m"
HELD = "cluster:emissions_run_held_idle_energy_joules:rate5m"
IDLE = 'reason=~"idle|unallocated"'
NODE_POWER = "instance:emissions_device_power_watts:sum"
ZONE_OF_NODE = (
    "max by (instance, grid_zone) "
    '(emissions_grid_intensity_grams_per_kwh{signal="average",accounting="location"}) ^ 0'
)


def share(of: str) -> str:
    """A share of the energy in the time range, from rates that were recorded together."""
    return f"{of} / {gained(RATE)}"


def emissions_of(label: str, missing: str) -> str:
    """Grams per step, of the label values with the most emissions in the whole time range."""
    recorded = f"{label}:emissions_run_carbon_grams:increase"
    rank = f"sum by ({label}) (sum_over_time({recorded}[$__range] @ end()))"
    pieces = gained(recorded, label, window="$__interval")
    return named(top(SHOWN, pieces, label, rank), label, missing)


def owners(title: str, label: str, missing: str, what: str) -> core.Table:
    """Build the table of energy, emissions and held idle energy by a label."""
    links = {title: LEADERBOARD.of_field(title)} if label == "user" else {}

    def listed(quantity: str) -> str:
        recorded = f"{label}:emissions_run_{quantity}:increase"
        return named(f"topk({LISTED}, {gained(recorded, label)})", label, missing)

    return table(
        f"By {title.lower()}",
        f"Usage of the runs of each {what} in the selected time range. Held idle is energy of idle "
        "devices held by the runs. Unattributed energy is not included.",
        {
            label: (title, ""),
            "Value #A": ("Energy", KILOWATT_HOURS),
            "Value #B": ("Emissions", GRAMS),
            "Value #C": ("Held idle", KILOWATT_HOURS),
        },
        latest(f"{listed('energy_joules')} / {JOULES_PER_KWH}"),
        latest(listed("carbon_grams")),
        latest(f"{listed('held_idle_energy_joules')} / {JOULES_PER_KWH}"),
        sort_by="Emissions",
        links=links,
    )


NOW = Row(
    "",
    (
        4,
        [
            number(
                "Power",
                WATTS,
                "Current power of all devices of all nodes.",
                latest("sum(cluster:emissions_device_power_watts:sum)"),
            ),
            number(
                "Energy",
                KILOWATT_HOURS,
                "Energy of all devices in the selected time range: GPUs, CPUs and memory. Disks, "
                "fans and power supplies are not included.",
                latest(f"{gained(ENERGY)} / {JOULES_PER_KWH}"),
            ),
            number(
                "Emissions",
                GRAMS,
                "CO2 equivalent of that energy, including PUE.",
                latest(gained(GRAMS_OF_ALL)),
            ),
            number(
                "Grams per kWh",
                GRAMS_PER_KWH,
                "Emissions divided by energy in the selected time range: the mean carbon "
                "intensity, weighted by energy, including PUE.",
                latest(f"{gained(GRAMS_OF_ALL)} / ({gained(ENERGY)} / {JOULES_PER_KWH} > 0)"),
            ),
            number(
                "Idle",
                RATIO,
                "Share of energy in the selected time range that did no work: idle devices, and "
                "devices held idle by runs.",
                latest(
                    share(f"({gained(UNATTRIBUTED, where=IDLE)} + ({gained(HELD)} or vector(0)))")
                ),
            ),
            number(
                "Outside runs",
                RATIO,
                "Share of energy in the selected time range used by activity that belongs to no "
                "run, job or pod.",
                latest(share(gained(UNATTRIBUTED, where='reason!~"idle|unallocated"'))),
            ),
            number(
                "Nodes",
                COUNT,
                "Number of nodes scraped at the end of the selected time range.",
                latest(f"count({NODE_POWER})"),
            ),
            number(
                "Alerts",
                COUNT,
                "Number of firing alerts of these rules.",
                latest(f"count({ALERTS}) or vector(0)"),
                orange_from=1,
            ),
        ],
    ),
)

POWER = Row(
    "",
    (
        9,
        [
            graph(
                "Power by device kind",
                WATTS,
                "Power of all devices.",
                query("sum by (device) (device:emissions_device_power_watts:sum)", "{{device}}"),
                stacked=True,
            ),
            graph(
                "Power by use",
                WATTS,
                "The same power, averaged over five minutes: used by runs, held idle by runs, or "
                "not attributed to any run, by reason.",
                query(
                    f"sum({RATE}) - sum({UNATTRIBUTED}) - (sum({HELD}) or vector(0))",
                    "active runs",
                ),
                query(f"sum({HELD})", "held idle by runs"),
                query(f"sum by (reason) ({UNATTRIBUTED}) > 0", "unattributed: {{reason}}"),
                stacked=True,
            ),
        ],
    ),
)

WHO = Row(
    "By owner",
    (
        9,
        [
            bars(
                "Emissions by user",
                GRAMS,
                f"The {SHOWN} users with the highest emissions in the selected time range.",
                query(emissions_of("user", NO_USER), "{{user}}", interval=EVALUATION),
            ),
            bars(
                "Emissions by namespace",
                GRAMS,
                f"The {SHOWN} Kubernetes namespaces with the highest emissions in the time range.",
                query(
                    emissions_of("workload_namespace", "no namespace"),
                    "{{workload_namespace}}",
                    interval=EVALUATION,
                ),
            ),
        ],
    ),
    (
        9,
        [
            owners("User", "user", NO_USER, "user"),
            owners("Namespace", "workload_namespace", "no namespace", "Kubernetes namespace"),
            owners("Account", "account", "no account", "scheduler account"),
        ],
    ),
)


def of_nodes(recorded: str) -> str:
    """Increase per node, of the nodes with the most energy."""
    energy = gained("instance:emissions_device_energy_joules:increase", "instance")
    return f"{gained(recorded, 'instance')} and on (instance) topk({LISTED}, {energy})"


WHERE = Row(
    "By location",
    (
        9,
        [
            table(
                "By node",
                f"The {LISTED} nodes with the most energy in the selected time range. Unattributed "
                "is the share of energy not attributed to any run, idle or active.",
                {
                    "instance": ("Node", ""),
                    "Value #A": ("Energy", KILOWATT_HOURS),
                    "Value #B": ("Emissions", GRAMS),
                    "Value #C": ("Unattributed", RATIO),
                },
                latest(
                    f"({of_nodes('instance:emissions_device_energy_joules:increase')}) "
                    f"/ {JOULES_PER_KWH}"
                ),
                latest(of_nodes("instance:emissions_device_carbon_grams:increase")),
                latest(
                    f"({of_nodes('instance_reason:emissions_unattributed_energy_joules:rate5m')}) "
                    f"/ {gained('instance:emissions_device_energy_joules:rate5m', 'instance')}"
                ),
                sort_by="Energy",
                links={"Node": NODE.of_field("Node")},
            ),
            table(
                "By grid zone",
                "Nodes by grid zone: number, current power, and emissions in the selected time "
                "range. If the zone of a node was changed, its emissions before the change count "
                "for the new zone.",
                {
                    "grid_zone": ("Zone", ""),
                    "Value #A": ("Nodes", COUNT),
                    "Value #B": ("Power", WATTS),
                    "Value #C": ("Emissions", GRAMS),
                },
                latest(f"count by (grid_zone) ({ZONE_OF_NODE})"),
                latest(
                    f"sum by (grid_zone) ({ZONE_OF_NODE} * on (instance) group_left () "
                    f"sum by (instance) ({NODE_POWER}))"
                ),
                latest(
                    f"sum by (grid_zone) ({ZONE_OF_NODE} * on (instance) group_left () "
                    f"{gained('instance:emissions_device_carbon_grams:increase', 'instance')})"
                ),
                sort_by="Emissions",
            ),
        ],
    ),
)

dashboard = board(
    "Emissions: fleet",
    "emissions-fleet",
    "Energy and emissions of all nodes in this data source: by owner, by location, and over time.",
    [NOW, POWER, WHO, WHERE],
    annotations=[alerts()],
)
