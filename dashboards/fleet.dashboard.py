"""The dashboard of all nodes: who emits what, where, and how that changes."""

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
"""Users, namespaces and so on in a graph; tables have more."""
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
    """A part of the energy in the time shown, from rates that were recorded together."""
    return f"{of} / {gained(RATE)}"


def emissions_of(label: str, nobody: str) -> str:
    """Grams in each piece of the time shown, of those who emitted most in all of it."""
    recorded = f"{label}:emissions_run_carbon_grams:increase"
    rank = f"sum by ({label}) (sum_over_time({recorded}[$__range] @ end()))"
    pieces = gained(recorded, label, window="$__interval")
    return named(top(SHOWN, pieces, label, rank), label, nobody)


def owners(title: str, label: str, nobody: str, what: str) -> core.Table:
    """What those with a label used, emitted and held idle."""
    links = {title: LEADERBOARD.of_field(title)} if label == "user" else {}

    def listed(quantity: str) -> str:
        recorded = f"{label}:emissions_run_{quantity}:increase"
        return named(f"topk({LISTED}, {gained(recorded, label)})", label, nobody)

    return table(
        f"By {title.lower()}",
        f"What the runs of each {what} used in the time shown. Held idle is the part that devices "
        "used which runs held and did nothing with. What no run used is not in it.",
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
                "What all devices of all nodes draw now.",
                latest("sum(cluster:emissions_device_power_watts:sum)"),
            ),
            number(
                "Energy",
                KILOWATT_HOURS,
                "What all devices used in the time shown: GPUs, processors and memory. Disks, fans "
                "and power supplies are not counted.",
                latest(f"{gained(ENERGY)} / {JOULES_PER_KWH}"),
            ),
            number(
                "Emissions",
                GRAMS,
                "CO2 equivalent of that energy, PUE included.",
                latest(gained(GRAMS_OF_ALL)),
            ),
            number(
                "Grams per kWh",
                GRAMS_PER_KWH,
                "Emissions of the time shown over its energy: the mean intensity of what was used, "
                "PUE included.",
                latest(f"{gained(GRAMS_OF_ALL)} / ({gained(ENERGY)} / {JOULES_PER_KWH} > 0)"),
            ),
            number(
                "Idle",
                RATIO,
                "The part of the energy in the time shown that did no work: devices that were "
                "idle, and devices that runs held and did nothing with.",
                latest(
                    share(f"({gained(UNATTRIBUTED, where=IDLE)} + ({gained(HELD)} or vector(0)))")
                ),
            ),
            number(
                "Work of no run",
                RATIO,
                "The part of the energy in the time shown that work used which belongs to no run, "
                "job or pod.",
                latest(share(gained(UNATTRIBUTED, where='reason!~"idle|unallocated"'))),
            ),
            number(
                "Nodes",
                COUNT,
                "Nodes that were seen at the end of the time shown.",
                latest(f"count({NODE_POWER})"),
            ),
            number(
                "Alerts",
                COUNT,
                "Alerts of these rules that fire now.",
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
                "Power by kind of device",
                WATTS,
                "What all devices draw.",
                query("sum by (device) (device:emissions_device_power_watts:sum)", "{{device}}"),
                stacked=True,
            ),
            graph(
                "Where power goes",
                WATTS,
                "The same power, as a mean of five minutes: used by runs, held by runs and idle, "
                "or charged to no run, by reason.",
                query(
                    f"sum({RATE}) - sum({UNATTRIBUTED}) - (sum({HELD}) or vector(0))",
                    "runs at work",
                ),
                query(f"sum({HELD})", "held by runs, idle"),
                query(f"sum by (reason) ({UNATTRIBUTED}) > 0", "no run: {{reason}}"),
                stacked=True,
            ),
        ],
    ),
)

WHO = Row(
    "Who",
    (
        9,
        [
            bars(
                "Emissions by user",
                GRAMS,
                f"Of the {SHOWN} users whose runs emitted most in the time shown.",
                query(emissions_of("user", NO_USER), "{{user}}", interval=EVALUATION),
            ),
            bars(
                "Emissions by namespace",
                GRAMS,
                f"Of the {SHOWN} Kubernetes namespaces that emitted most in the time shown.",
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
            owners("Account", "account", "no account", "account of the scheduler"),
        ],
    ),
)


def of_nodes(recorded: str) -> str:
    """What nodes gained, of those with most energy."""
    energy = gained("instance:emissions_device_energy_joules:increase", "instance")
    return f"{gained(recorded, 'instance')} and on (instance) topk({LISTED}, {energy})"


WHERE = Row(
    "Where",
    (
        9,
        [
            table(
                "By node",
                f"The {LISTED} nodes with most energy in the time shown. Unattributed is the part "
                "of it that no run used, idle or not.",
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
                "Nodes by the zone of their grid: how many, what they draw now, and what they "
                "emitted in the time shown. A zone that was set anew has its nodes' past too.",
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
    "Energy and emissions of everything that this data source sees: who, where, and the trend.",
    [NOW, POWER, WHO, WHERE],
    annotations=[alerts()],
)
