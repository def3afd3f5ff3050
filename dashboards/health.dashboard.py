"""The dashboard of the exporters themselves: whether the numbers can be believed."""

from panels import (
    ALERTS,
    NODE,
    NODES,
    Row,
    alerts,
    board,
    graph,
    latest,
    nodes,
    number,
    query,
    table,
)
from panels.units import BYTES, COUNT, JOULES, PER_SECOND, RATIO, SECONDS, WATTS

OURS = "and on (instance, job) emissions_exporter_build_info"
"""Keeps the `process_*` of this exporter; others on the node have the same names."""
SHOWN = 15
"""Nodes in a graph."""
TO_NODE = {"Node": NODE.of_field("Node")}


def gained(counter: str) -> str:
    """What a counter gained in the time shown."""
    return f"sum(increase({counter}{{{NODES}}}[$__range]))"


def worst(expr: str, of: str) -> str:
    """The nodes with the highest values; `of` is the same over the time shown."""
    return f"{expr} and on (instance) topk({SHOWN}, {of})"


def highest(gauge: str) -> str:
    """A gauge of the nodes where it was highest."""
    over_time = f"max by (instance) (max_over_time({gauge}{{{NODES}}}[$__range] @ end()))"
    return worst(f"max by (instance) ({gauge}{{{NODES}}})", over_time)


def fastest(counter: str) -> str:
    """The rate of a counter on the nodes where it grew most."""
    over_time = f"max by (instance) (rate({counter}{{{NODES}}}[$__range] @ end()) {OURS})"
    return worst(
        f"max by (instance) (rate({counter}{{{NODES}}}[$__rate_interval]) {OURS})", over_time
    )


NOW = Row(
    "",
    (
        4,
        [
            number(
                "Exporters",
                COUNT,
                "Exporters that answer.",
                latest(f"count(emissions_exporter_build_info{{{NODES}}})"),
            ),
            number(
                "Missing",
                COUNT,
                "Exporters that cannot be scraped. What they still count is caught up with.",
                latest(
                    f'count(up{{{NODES},job="emissions-exporter"}} == 0) or vector(0)',
                ),
                red_from=1,
            ),
            number(
                "Alerts",
                COUNT,
                "Alerts of these rules that fire now, budgets included.",
                latest(f"count({ALERTS}) or vector(0)"),
                orange_from=1,
            ),
            number(
                "Imbalance",
                JOULES,
                "Energy of the devices minus all that was charged. Always 0; else it is a bug.",
                latest(f"max(abs(emissions_attribution_imbalance_joules{{{NODES}}}))"),
                red_from=1e-6,
            ),
            number(
                "Late ticks",
                COUNT,
                "Ticks in the time shown that came late since the one before took too long.",
                latest(gained("emissions_loop_overruns_total")),
                orange_from=1,
            ),
            number(
                "Ledger errors",
                COUNT,
                "Commits in the time shown that failed; their totals are kept in memory.",
                latest(gained("emissions_ledger_errors_total")),
                red_from=1,
            ),
            number(
                "Folded runs",
                COUNT,
                "Runs in the time shown that were folded into `other`, being too many.",
                latest(gained("emissions_series_dropped_total")),
                orange_from=1,
            ),
            number(
                "Own power",
                WATTS,
                "What all exporters draw themselves; it is inside the power of the devices.",
                latest(
                    f"sum(rate(emissions_exporter_energy_joules_total{{{NODES}}}"
                    "[$__rate_interval]))"
                ),
            ),
        ],
    ),
)

SAMPLE = Row(
    "Sample",
    (
        8,
        [
            graph(
                "Devices not read",
                COUNT,
                "Devices that could not be read at the last tick, by kind. Their energy is held "
                "until they can be.",
                query(
                    f"sum by (device) (1 - min by (instance, device, id) "
                    f"(emissions_device_up{{{NODES}}}))",
                    "{{device}}",
                ),
            ),
            graph(
                "Age of samples",
                SECONDS,
                f"Since the oldest device was read well; the {SHOWN} nodes where that was longest.",
                query(highest("emissions_device_sample_age_seconds"), "{{instance}}"),
                link=NODE.of_label("instance"),
            ),
            graph(
                "Events of counters",
                PER_SECOND,
                "Wraps, resets, glitches that were held back, and gaps that were bridged. None of "
                "them loses energy.",
                query(
                    "sum by (event) (rate(emissions_device_energy_events_total"
                    f"{{{NODES}}}[$__rate_interval]))",
                    "{{event}}",
                ),
            ),
        ],
    ),
)

ATTRIBUTE = Row(
    "Attribute and convert",
    (
        8,
        [
            graph(
                "Collectors that fail",
                COUNT,
                "Nodes on which a collector failed at its last try, by collector: sources of "
                "energy, of runs and of grid intensity.",
                query(
                    "sum by (collector) (1 - min by (instance, collector) "
                    f"(emissions_collector_success{{{NODES}}}))",
                    "{{collector}}",
                ),
            ),
            table(
                "Collectors that fail now",
                "The log and the live page of the node say why, and what to do.",
                {"instance": ("Node", ""), "collector": ("Collector", "")},
                latest(
                    "topk(100, 1 - min by (instance, collector) "
                    f"(emissions_collector_success{{{NODES}}}) > 0)"
                ),
                links=TO_NODE,
            ),
        ],
    ),
    (
        8,
        [
            table(
                "Alerts that fire",
                "Each has its heading in docs/runbook.md.",
                {
                    "alertname": ("Alert", ""),
                    "severity": ("Severity", ""),
                    "instance": ("Node", ""),
                    "run_id": ("Run", ""),
                    "budget": ("Budget", ""),
                },
                latest(
                    f"topk(100, max by (alertname, severity, instance, run_id, budget) ({ALERTS}))"
                ),
                links=TO_NODE,
            ),
        ],
    ),
)

ACCOUNT = Row(
    "Account",
    (
        8,
        [
            graph(
                "Age of the last commit",
                SECONDS,
                "Since the ledger was last written. The journal covers for the time since then.",
                query(highest("emissions_ledger_commit_age_seconds"), "{{instance}}"),
                link=NODE.of_label("instance"),
            ),
            graph(
                "Time of a tick",
                SECONDS,
                f"From sampling to the finished page; the {SHOWN} nodes where it took longest.",
                query(highest("emissions_loop_duration_seconds"), "{{instance}}"),
                link=NODE.of_label("instance"),
            ),
        ],
    ),
)

EXPOSE = Row(
    "Expose",
    (
        8,
        [
            graph(
                "Own processor time",
                RATIO,
                f"Part of one core that an exporter uses; the {SHOWN} nodes with most.",
                query(fastest("process_cpu_seconds_total"), "{{instance}}"),
                link=NODE.of_label("instance"),
            ),
            graph(
                "Own memory",
                BYTES,
                f"Resident memory of an exporter; the {SHOWN} nodes with most.",
                query(
                    worst(
                        f"max by (instance) (process_resident_memory_bytes{{{NODES}}} {OURS})",
                        "max by (instance) (max_over_time("
                        f"process_resident_memory_bytes{{{NODES}}}[$__range] @ end()) {OURS})",
                    ),
                    "{{instance}}",
                ),
                link=NODE.of_label("instance"),
            ),
            table(
                "Versions",
                "Exporters by their version and that of their Python.",
                {
                    "version": ("Version", ""),
                    "python": ("Python", ""),
                    "Value #A": ("Exporters", COUNT),
                },
                latest(f"count by (version, python) (emissions_exporter_build_info{{{NODES}}})"),
            ),
        ],
    ),
)

dashboard = board(
    "Emissions: exporter health",
    "emissions-health",
    "Whether the numbers can be believed: exporters, devices, collectors, ledgers, and their cost.",
    [NOW, SAMPLE, ATTRIBUTE, ACCOUNT, EXPOSE],
    [nodes()],
    [alerts('alertname!~"EmissionsBudget.+|EmissionsRunBudget.+"')],
    begins="now-6h",
)
