"""The dashboard of the exporters themselves: accuracy and completeness of the data."""

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
"""Selects the `process_*` series of this exporter; other exporters have the same names."""
SHOWN = 15
"""Nodes shown in a graph."""
TO_NODE = {"Node": NODE.of_field("Node")}


def gained(counter: str) -> str:
    """Increase of a counter in the time range."""
    return f"sum(increase({counter}{{{NODES}}}[$__range]))"


def worst(expr: str, of: str) -> str:
    """Select the nodes with the highest values; `of` is `expr` over the whole time range."""
    return f"{expr} and on (instance) topk({SHOWN}, {of})"


def highest(gauge: str) -> str:
    """A gauge on the nodes with its highest values."""
    over_time = f"max by (instance) (max_over_time({gauge}{{{NODES}}}[$__range] @ end()))"
    return worst(f"max by (instance) ({gauge}{{{NODES}}})", over_time)


def fastest(counter: str) -> str:
    """Rate of a counter on the nodes with the largest increase."""
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
                "Number of exporters that can be scraped.",
                latest(f"count(emissions_exporter_build_info{{{NODES}}})"),
            ),
            number(
                "Missing",
                COUNT,
                "Number of exporters that cannot be scraped. Energy that they count in the "
                "meantime is added after the next successful scrape.",
                latest(
                    f'count(up{{{NODES},job="emissions-exporter"}} == 0) or vector(0)',
                ),
                red_from=1,
            ),
            number(
                "Alerts",
                COUNT,
                "Number of firing alerts of these rules, including budgets.",
                latest(f"count({ALERTS}) or vector(0)"),
                orange_from=1,
            ),
            number(
                "Imbalance",
                JOULES,
                "Energy of the devices minus all attributed and unattributed energy. Always 0; any "
                "other value is a bug.",
                latest(f"max(abs(emissions_attribution_imbalance_joules{{{NODES}}}))"),
                red_from=1e-6,
            ),
            number(
                "Late ticks",
                COUNT,
                "Ticks in the selected time range that started late because the previous one took "
                "too long.",
                latest(gained("emissions_loop_overruns_total")),
                orange_from=1,
            ),
            number(
                "Ledger errors",
                COUNT,
                "Failed commits in the selected time range; their totals are kept in memory.",
                latest(gained("emissions_ledger_errors_total")),
                red_from=1,
            ),
            number(
                "Runs as other",
                COUNT,
                "Runs in the selected time range that were counted as `other` because "
                "attribute.max_runs was reached.",
                latest(gained("emissions_series_dropped_total")),
                orange_from=1,
            ),
            number(
                "Exporter power",
                WATTS,
                "Power of all exporters themselves; included in the power of the devices.",
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
                "Devices whose last reading failed, by kind. Their energy is added when they can "
                "be read again.",
                query(
                    f"sum by (device) (1 - min by (instance, device, id) "
                    f"(emissions_device_up{{{NODES}}}))",
                    "{{device}}",
                ),
            ),
            graph(
                "Age of samples",
                SECONDS,
                f"Time since the last successful reading; the {SHOWN} nodes with the oldest.",
                query(highest("emissions_device_sample_age_seconds"), "{{instance}}"),
                link=NODE.of_label("instance"),
            ),
            graph(
                "Energy counter events",
                PER_SECOND,
                "Wraps, resets, suspect readings held back, and gaps bridged. None of them loses "
                "energy.",
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
                "Failing collectors",
                COUNT,
                "Number of nodes on which the last attempt of a collector failed, by collector: "
                "sources of energy, of runs and of carbon intensity.",
                query(
                    "sum by (collector) (1 - min by (instance, collector) "
                    f"(emissions_collector_success{{{NODES}}}))",
                    "{{collector}}",
                ),
            ),
            table(
                "Collectors failing now",
                "The log and the live page of the node show the reason and the remedy.",
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
                "Firing alerts",
                "Each alert has a section in docs/runbook.md.",
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
                "Time since the last ledger commit. The journal keeps the data of the time since "
                "then.",
                query(highest("emissions_ledger_commit_age_seconds"), "{{instance}}"),
                link=NODE.of_label("instance"),
            ),
            graph(
                "Tick duration",
                SECONDS,
                f"From sampling to the rendered metrics; the {SHOWN} nodes with the longest ticks.",
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
                "Exporter CPU time",
                RATIO,
                f"Fraction of one core used by the exporter; the {SHOWN} nodes with the most.",
                query(fastest("process_cpu_seconds_total"), "{{instance}}"),
                link=NODE.of_label("instance"),
            ),
            graph(
                "Exporter memory",
                BYTES,
                f"Resident memory of the exporter; the {SHOWN} nodes with the most.",
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
                "Number of exporters by their version and that of Python.",
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
    "Accuracy and completeness of the data: exporters, devices, collectors, ledgers, and their "
    "cost.",
    [NOW, SAMPLE, ATTRIBUTE, ACCOUNT, EXPOSE],
    [nodes()],
    [alerts('alertname!~"EmissionsBudget.+|EmissionsRunBudget.+"')],
    begins="now-6h",
)
