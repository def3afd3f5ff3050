"""The dashboard of one node or many: what they draw, whose it is, and what it emits."""

from panels import (
    BYTES,
    COUNT,
    DATE,
    GRAMS,
    GRAMS_PER_KWH,
    KILOWATT_HOURS,
    NODES,
    RATIO,
    SECONDS,
    WATTS,
    Row,
    board,
    graph,
    latest,
    number,
    query,
    states,
    table,
)

JOULES_PER_KWH = "3.6e6"
OURS = "and on (instance, job) emissions_exporter_build_info"
"""Keeps the `process_*` of this exporter; others on the node have the same names."""


def over_range(counter: str, by: str = "") -> str:
    """What a counter of devices gained in the time shown."""
    return f"sum{by}(increase({counter}{{{NODES}}}[$__range]))"


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
                latest(f"sum(emissions_device_power_watts{{{NODES}}})"),
            ),
            number(
                "Energy",
                KILOWATT_HOURS,
                "What all devices used in the time shown; by default, today.",
                latest(f"{over_range('emissions_device_energy_joules_total')} / {JOULES_PER_KWH}"),
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
                "The carbon intensity in force now; the mean where nodes have different ones.",
                latest(f"avg(emissions_grid_intensity_grams_per_kwh{{{NODES}}})"),
            ),
            number(
                "Charged to runs",
                RATIO,
                "The part of the energy in the time shown that runs used; the rest has a reason, "
                "shown below.",
                latest(
                    f"{over_range('emissions_attributed_energy_joules_total')} / "
                    f"{over_range('emissions_device_energy_joules_total')}"
                ),
            ),
            number(
                "Estimated",
                RATIO,
                "The part of the energy in the time shown that no counter measured.",
                latest(
                    f'sum(increase(emissions_device_energy_joules_total{{{NODES},method="estimated"}}'
                    f"[$__range])) / {over_range('emissions_device_energy_joules_total')}"
                ),
            ),
        ],
    ),
)

SAMPLE = Row(
    "Sample: what the devices draw",
    (
        8,
        [
            graph(
                "Power by device",
                WATTS,
                "Each device of the chosen nodes. A gap means that the device could not be read.",
                query(
                    f"sum by (instance, device, id) (emissions_device_power_watts{{{NODES}}})",
                    "{{instance}} {{id}}",
                ),
                stacked=True,
            ),
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
                    over_range(
                        "emissions_device_energy_joules_total", " by (instance, device, id) "
                    )
                    + f" / {JOULES_PER_KWH}"
                ),
                latest(
                    over_range("emissions_device_carbon_grams_total", " by (instance, device, id) ")
                ),
                sort_by="Energy",
            ),
        ],
    ),
)

ATTRIBUTE = Row(
    "Attribute: who draws it",
    (
        8,
        [
            graph(
                "Power by run",
                WATTS,
                "Runs, and under their reasons what no run used. Together they are the power of "
                "the devices.",
                query(f"sum by (run_id) (emissions_run_power_watts{{{NODES}}})", "{{run_id}}"),
                query(
                    f"sum by (reason) (emissions_unattributed_power_watts{{{NODES}}})",
                    "no run: {{reason}}",
                ),
                stacked=True,
            ),
            table(
                "Unattributed, by reason",
                "Energy in the time shown that was charged to no run, and why: idle is what the "
                "machine draws doing nothing, other is work outside runs, restart is what was used "
                "while the exporter was down and cannot be told apart.",
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
                latest(f"sum by (run_id, job_id) (emissions_run_power_watts{{{NODES}}})"),
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
            ),
        ],
    ),
)

EXPOSE = Row(
    "Expose: the exporter itself",
    (
        4,
        [
            number(
                "Imbalance",
                "joule",
                "Energy of the devices minus all that was charged. Always 0; else it is a bug.",
                latest(f"max(abs(emissions_attribution_imbalance_joules{{{NODES}}}))"),
                red_from=1e-6,
            ),
            number(
                "Late ticks",
                COUNT,
                "Ticks in the time shown that came late because the one before took too long.",
                latest(over_range("emissions_loop_overruns_total")),
                red_from=1,
            ),
            number(
                "Ledger errors",
                COUNT,
                "Commits in the time shown that failed; their totals are kept in memory.",
                latest(over_range("emissions_ledger_errors_total")),
                red_from=1,
            ),
            number(
                "Runs without series",
                COUNT,
                "Runs in the time shown that were folded into `other`, being too many.",
                latest(over_range("emissions_series_dropped_total")),
                red_from=1,
            ),
        ],
    ),
    (
        7,
        [
            states(
                "Collectors",
                "Whether each collector worked at its last try; its log line says why not.",
                (("failed", "red"), ("works", "green")),
                query(
                    f"min by (instance, collector) (emissions_collector_success{{{NODES}}})",
                    "{{instance}} {{collector}}",
                ),
            ),
            states(
                "Devices",
                "Whether each device could be read at the last tick.",
                (("not read", "red"), ("read", "green")),
                query(
                    f"min by (instance, device, id) (emissions_device_up{{{NODES}}})",
                    "{{instance}} {{id}}",
                ),
            ),
        ],
    ),
    (
        7,
        [
            graph(
                "Time of a tick",
                SECONDS,
                "From sampling to the finished page.",
                query(
                    f"max by (instance) (emissions_loop_duration_seconds{{{NODES}}})",
                    "{{instance}}",
                ),
            ),
            graph(
                "Age of samples and commits",
                SECONDS,
                "Since the oldest device was read well, and since the ledger was last written.",
                query(
                    f"max by (instance) (emissions_device_sample_age_seconds{{{NODES}}})",
                    "{{instance}} sample",
                ),
                query(
                    f"max by (instance) (emissions_ledger_commit_age_seconds{{{NODES}}})",
                    "{{instance}} commit",
                ),
            ),
        ],
    ),
    (
        7,
        [
            graph(
                "Own processor time",
                RATIO,
                "Part of one core that the exporter uses.",
                query(
                    f"rate(process_cpu_seconds_total{{{NODES}}}[$__rate_interval]) {OURS}",
                    "{{instance}}",
                ),
            ),
            graph(
                "Own memory",
                BYTES,
                "Resident memory of the exporter.",
                query(f"process_resident_memory_bytes{{{NODES}}} {OURS}", "{{instance}}"),
            ),
            graph(
                "Own power",
                WATTS,
                "What the exporter itself draws; it is inside the power of the devices.",
                query(
                    "sum by (instance) "
                    f"(rate(emissions_exporter_energy_joules_total{{{NODES}}}[$__rate_interval]))",
                    "{{instance}}",
                ),
            ),
        ],
    ),
)

dashboard = board(
    "Emissions: nodes and runs",
    "emissions-nodes",
    "Energy and emissions of the chosen nodes, and of every run on them.",
    [NOW, SAMPLE, ATTRIBUTE, CONVERT, ACCOUNT, EXPOSE],
)
