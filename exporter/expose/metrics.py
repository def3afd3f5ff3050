"""The metric catalog: name, type, help text, labels and sample function of every metric family.

The metrics page, docs/metrics.md and the tests are derived from it. Names and labels are a stable
interface.
"""

import re
from typing import Literal, NamedTuple, TypeAlias

from exporter import units
from exporter.errors import ConfigError
from exporter.expose import samples
from exporter.expose.samples import DECIMALS, SampleFunction
from exporter.model.runs import RUN_LABELS
from exporter.model.workload import UnattributedReason

PREFIX = "emissions_"

MetricType: TypeAlias = Literal["gauge", "counter"]


class MetricFamily(NamedTuple):
    """One metric family."""

    name: str
    """The full name; the name of a counter ends in `_total`."""
    type: MetricType
    help: str
    labels: tuple[str, ...]
    samples: SampleFunction
    """Returns the label values, in the order of `labels`, and the value of each sample."""
    durable: bool = False
    """Whether the counter continues across restarts of the daemon.

    After a restart it is at or above its last published value, or it restarts at zero.
    """


def _gauge(name: str, labels: tuple[str, ...], samples: SampleFunction, text: str) -> MetricFamily:
    return MetricFamily(PREFIX + name, "gauge", text, labels, samples)


def _counter(
    name: str, labels: tuple[str, ...], samples: SampleFunction, text: str
) -> MetricFamily:
    return MetricFamily(PREFIX + name, "counter", text, labels, samples)


def _durable_counter(
    name: str, labels: tuple[str, ...], samples: SampleFunction, text: str
) -> MetricFamily:
    return MetricFamily(PREFIX + name, "counter", text, labels, samples, durable=True)


REASONS = {
    UnattributedReason.IDLE: (
        "CPUs and memory: idle power, and the energy of memory that no process uses."
    ),
    UnattributedReason.OTHER: (
        "CPUs and memory: activity of processes that belong to no run, for example system "
        "services, or pods in namespaces that `attribute.namespaces` or "
        "`attribute.excluded_namespaces` leaves out. The device `rest`: all of its energy."
    ),
    UnattributedReason.UNALLOCATED: (
        "GPUs: idle power of a GPU, or of the share of a GPU, that no run holds; all of its "
        "energy while no process is known to use it."
    ),
    UnattributedReason.UNKNOWN_PROCESS: (
        "GPUs: activity of processes that belong to no run, or of processes that are not visible "
        "on a GPU that no run holds."
    ),
    UnattributedReason.RESTART: (
        "Energy counted by a hardware counter while the exporter was not running, unless a run is "
        "known to have held the device for all of that time."
    ),
}
"""Values of the label `reason`: why energy is attributed to no run."""

DEVICE_LABELS = ("device", "id")
RUN_DEVICE_LABELS = (*RUN_LABELS, "device", "id")
RUN_BOUND_LABELS = (*RUN_LABELS, "bound")
GRID_LABELS = ("grid_zone", "signal", "basis", "accounting")

DEVICE_FAMILIES = (
    _gauge(
        "device_info",
        (*DEVICE_LABELS, "model", "vendor", "source", "index", "pci_bus_id"),
        samples.device_info,
        "Device metadata: model, vendor, collector that reads it, index and PCI address; the value "
        "is always 1.",
    ),
    _gauge(
        "device_power_watts",
        DEVICE_LABELS,
        samples.per_device(
            lambda state: None if state.power_watts is None else round(state.power_watts, DECIMALS)
        ),
        "Device power in watts, averaged over the last sampling interval; absent while unknown.",
    ),
    _gauge(
        "device_power_limit_watts",
        DEVICE_LABELS,
        samples.per_device(lambda state: state.info.power_limit_watts),
        "Power limit of the device in watts; absent if it has none.",
    ),
    _gauge(
        "device_utilization_ratio",
        DEVICE_LABELS,
        samples.per_device(lambda state: state.utilization),
        "Utilization of the GPU, 0 to 1, as its driver reports it: for NVIDIA the fraction of time "
        "in which at least one kernel ran, for AMD the activity of the compute units, for Intel "
        "that of the engines; absent while unknown or while the GPU is partitioned.",
    ),
    _durable_counter(
        "device_energy_joules_total",
        (*DEVICE_LABELS, "method"),
        samples.of_tally(lambda view: view.by_method, lambda tally: units.joules(tally.counted_uj)),
        "Device energy in joules, by measurement method: read from a hardware counter, integrated "
        "from power, or estimated.",
    ),
    _durable_counter(
        "device_carbon_grams_total",
        DEVICE_LABELS,
        samples.of_tally(lambda view: view.devices, lambda tally: units.grams(tally.counted_ng)),
        "Device emissions in grams of CO2 equivalent, including PUE.",
    ),
    _gauge(
        "device_cumulative_energy_joules",
        DEVICE_LABELS,
        samples.of_tally(lambda view: view.devices, lambda tally: units.joules(tally.total_uj)),
        "Device energy in joules since the ledger was created, across restarts; for rates use the "
        "counter.",
    ),
    _gauge(
        "device_cumulative_carbon_grams",
        DEVICE_LABELS,
        samples.of_tally(lambda view: view.devices, lambda tally: units.grams(tally.total_ng)),
        "Device emissions in grams of CO2 equivalent since the ledger was created, across "
        "restarts; for rates use the counter.",
    ),
    _gauge(
        "device_up",
        DEVICE_LABELS,
        samples.per_device(lambda state: int(state.up)),
        "Whether the last reading of the device succeeded (1) or failed (0).",
    ),
    _gauge(
        "device_sample_age_seconds",
        DEVICE_LABELS,
        samples.per_device(lambda state: round(state.age_seconds, DECIMALS)),
        "Time in seconds since the last successful reading of the device.",
    ),
    _counter(
        "device_energy_events_total",
        (*DEVICE_LABELS, "event"),
        samples.device_events,
        "Events of the device's energy counter: wraps, resets, suspect readings held back, gaps "
        "bridged.",
    ),
    _durable_counter(
        "attributed_energy_joules_total",
        DEVICE_LABELS,
        samples.of_tally(
            lambda view: view.attributed, lambda tally: units.joules(tally.counted_uj)
        ),
        "Device energy in joules attributed to runs, including runs that are no longer exported; "
        "attributed and unattributed energy sum to the energy of the device.",
    ),
    _durable_counter(
        "attributed_carbon_grams_total",
        DEVICE_LABELS,
        samples.of_tally(lambda view: view.attributed, lambda tally: units.grams(tally.counted_ng)),
        "Device emissions in grams of CO2 equivalent attributed to runs, including runs that are "
        "no longer exported.",
    ),
    _durable_counter(
        "unattributed_energy_joules_total",
        (*DEVICE_LABELS, "reason"),
        samples.of_tally(
            lambda view: view.unattributed, lambda tally: units.joules(tally.counted_uj)
        ),
        "Device energy in joules not attributed to any run, by reason.",
    ),
    _durable_counter(
        "unattributed_carbon_grams_total",
        (*DEVICE_LABELS, "reason"),
        samples.of_tally(
            lambda view: view.unattributed, lambda tally: units.grams(tally.counted_ng)
        ),
        "Device emissions in grams of CO2 equivalent not attributed to any run, by reason.",
    ),
    _gauge(
        "unattributed_power_watts",
        (*DEVICE_LABELS, "reason"),
        samples.power_watts(lambda view: view.unattributed),
        "Device power in watts not attributed to any run, by reason.",
    ),
)

NODE_FAMILIES = (
    _counter(
        "node_energy_joules_total",
        ("method", "source"),
        samples.node_energy,
        "Energy of the whole node in joules since this exporter started, by measurement method and "
        "collector of its meter; it includes all devices, and `rest` is what no other one covers.",
    ),
)

RUN_FAMILIES = (
    _gauge(
        "run_member_info",
        (*RUN_LABELS, "workload_pod", "workload_container"),
        samples.run_members,
        "Containers of the pods that belong to the run on this node, one series each; the value is "
        "always 1.",
    ),
    _gauge(
        "run_power_watts",
        RUN_DEVICE_LABELS,
        samples.TallySamples(lambda view: view.runs_with_power, samples.rounded_watts),
        "Run power in watts, by device kind and, for GPUs, by device; absent after the run has "
        "ended.",
    ),
    _durable_counter(
        "run_energy_joules_total",
        RUN_DEVICE_LABELS,
        samples.TallySamples(lambda view: view.runs_by_device, samples.counted_joules),
        "Run energy in joules, by device kind and, for GPUs, by device, including the idle energy "
        "of devices that the run holds; cpu and dram have no id because the kernel does not report "
        "which socket a process used.",
    ),
    _durable_counter(
        "run_carbon_grams_total",
        RUN_DEVICE_LABELS,
        samples.TallySamples(lambda view: view.runs_by_device, samples.counted_grams),
        "Run emissions in grams of CO2 equivalent, including PUE, by device kind and, for GPUs, by "
        "device.",
    ),
    _durable_counter(
        "run_held_idle_energy_joules_total",
        (*RUN_LABELS, "device"),
        samples.TallySamples(lambda view: view.runs_by_kind, samples.held_joules),
        "Idle energy in joules of devices held by the run; included in the run's energy.",
    ),
    _gauge(
        "run_cumulative_energy_joules",
        RUN_DEVICE_LABELS,
        samples.TallySamples(lambda view: view.runs_by_device, samples.total_joules),
        "Run energy in joules since its first start, across restarts; for rates use the counter.",
    ),
    _gauge(
        "run_cumulative_carbon_grams",
        RUN_LABELS,
        samples.run_cumulative_carbon,
        "Run emissions in grams of CO2 equivalent since its first start, over all its devices and "
        "across restarts; for rates use the counter.",
    ),
    _gauge(
        "run_start_time_seconds",
        RUN_LABELS,
        samples.per_run(lambda run: run.started),
        "First start of the run in seconds since the Unix epoch.",
    ),
    _gauge(
        "run_end_time_seconds",
        RUN_LABELS,
        samples.per_run(lambda run: run.ended),
        "End of the run in seconds since the Unix epoch; absent while the run is active.",
    ),
    _gauge(
        "run_budget_grams",
        RUN_LABELS,
        samples.per_run(lambda run: run.budget_grams),
        "Emission budget of the run in grams of CO2 equivalent; absent if none is set.",
    ),
    _durable_counter(
        "run_units_total",
        (*RUN_LABELS, "unit"),
        samples.run_units,
        "Units of work counted by the run, by unit, for example tokens, requests or samples.",
    ),
    _gauge(
        "run_forecast_grams",
        RUN_LABELS,
        samples.run_forecast(lambda ahead: units.grams(ahead.carbon_ng)),
        "Forecast emissions of the run on this node at its completion, in grams of CO2 equivalent; "
        "absent if the run does not report its progress, and until energy was measured between two "
        "of its progress reports.",
    ),
    _gauge(
        "run_forecast_end_time_seconds",
        RUN_LABELS,
        samples.run_forecast(lambda ahead: round(ahead.ends, DECIMALS)),
        "Forecast completion time of the run in seconds since the Unix epoch; absent under the "
        "same conditions as emissions_run_forecast_grams.",
    ),
    _gauge(
        "run_forecast_energy_joules",
        RUN_LABELS,
        samples.run_forecast(lambda ahead: units.joules(ahead.energy_uj)),
        "Forecast energy of the run on this node at its completion, in joules; absent under the "
        "same conditions as emissions_run_forecast_grams.",
    ),
    _gauge(
        "run_forecast_bound_grams",
        RUN_BOUND_LABELS,
        samples.run_forecast_bounds(lambda bound: units.grams(bound.carbon_ng)),
        "Bounds `low` and `high` of the 95% prediction interval of emissions_run_forecast_grams, "
        "assuming that consumption keeps varying as before; absent until three segments of work "
        "can be compared.",
    ),
    _gauge(
        "run_forecast_bound_energy_joules",
        RUN_BOUND_LABELS,
        samples.run_forecast_bounds(lambda bound: units.joules(bound.energy_uj)),
        "Bounds `low` and `high` of the 95% prediction interval of "
        "emissions_run_forecast_energy_joules.",
    ),
    _gauge(
        "run_forecast_bound_end_time_seconds",
        RUN_BOUND_LABELS,
        samples.run_forecast_bounds(lambda bound: round(bound.ends, DECIMALS)),
        "Bounds `low` and `high` of the 95% prediction interval of "
        "emissions_run_forecast_end_time_seconds.",
    ),
)

GRID_FAMILIES = (
    _gauge(
        "grid_intensity_grams_per_kwh",
        GRID_LABELS,
        samples.per_factor(lambda _, factor: factor.grams_per_kwh),
        "Carbon intensity in effect, in grams of CO2 equivalent per kilowatt hour, excluding PUE; "
        "absent if none is available.",
    ),
    _gauge(
        "grid_intensity_age_seconds",
        GRID_LABELS,
        samples.per_factor(lambda state, _: state.age_seconds),
        "Age in seconds of the carbon intensity in effect; absent if its source reports no time.",
    ),
    _gauge(
        "grid_intensity_fallback_step",
        GRID_LABELS,
        samples.per_factor(lambda _, factor: factor.step),
        "Position in the source chain of the source that provides the carbon intensity in effect; "
        "0 is the preferred source.",
    ),
    _gauge(
        "grid_intensity_info",
        (*GRID_LABELS, "source", "estimated"),
        samples.grid_info,
        "Source of the carbon intensity in effect and whether it is an estimate; the value is "
        "always 1.",
    ),
    _counter(
        "grid_intensity_requests_total",
        ("source", "outcome"),
        samples.grid_requests,
        "Requests to live sources of carbon intensity, by outcome; `ok` is a valid response.",
    ),
    _gauge(
        "pue_ratio",
        (),
        samples.pue,
        "Power usage effectiveness (facility energy divided by machine energy) by which emissions "
        "are multiplied.",
    ),
)

DAEMON_FAMILIES = (
    _gauge(
        "attribution_imbalance_joules",
        (),
        samples.health_value(lambda health: units.joules(health.imbalance_uj)),
        "Device energy minus all energy attributed to runs and reasons, in joules; always 0.",
    ),
    _gauge(
        "collector_success",
        ("collector",),
        samples.collector_success,
        "Whether the last attempt of the collector succeeded (1) or failed (0).",
    ),
    _gauge(
        "collector_duration_seconds",
        ("collector",),
        samples.collector_duration,
        "Duration in seconds of the collector's last attempt.",
    ),
    _gauge(
        "config_last_reload_successful",
        (),
        samples.config_reload,
        "Whether the last configuration reload succeeded (1) or failed (0); after a failure the "
        "previous configuration stays in effect.",
    ),
    _counter(
        "driver_calls_total",
        ("call",),
        samples.driver_calls,
        "Calls to device drivers, by driver function.",
    ),
    _counter(
        "driver_call_seconds_total",
        ("call",),
        samples.driver_seconds,
        "Time spent in calls to device drivers in seconds, by driver function; the calls do not "
        "block the loop.",
    ),
    _gauge(
        "loop_duration_seconds",
        (),
        samples.health_value(lambda health: health.loop_seconds),
        "Duration in seconds of the last tick, from sampling to the rendered metrics page.",
    ),
    _counter(
        "loop_overruns_total",
        (),
        samples.health_value(lambda health: health.loop_overruns),
        "Ticks that started late because the previous one took too long.",
    ),
    _counter(
        "ledger_errors_total",
        (),
        samples.health_value(lambda health: health.ledger_errors),
        "Ledger commits that failed and were kept in memory for a retry.",
    ),
    _gauge(
        "ledger_commit_age_seconds",
        (),
        samples.health_value(lambda health: round(health.commit_age_seconds, DECIMALS)),
        "Time in seconds since the last ledger commit.",
    ),
    _counter(
        "series_dropped_total",
        (),
        samples.health_value(lambda health: health.series_dropped),
        "Runs without series of their own because attribute.max_runs was reached; they are counted "
        "under run_id `other`.",
    ),
    _counter(
        "exporter_energy_joules_total",
        (),
        samples.health_value(lambda health: units.joules(health.exporter_energy_uj)),
        "Energy in joules used by this exporter since it started; included in the energy of the "
        "devices.",
    ),
    _gauge(
        "exporter_build_info",
        ("version", "python"),
        samples.build_info,
        "Version of this exporter and of the Python that runs it; the value is always 1.",
    ),
    MetricFamily(
        "process_cpu_seconds_total",
        "counter",
        "User and system CPU time of this exporter in seconds.",
        (),
        samples.process_value(lambda state: state.cpu_seconds),
    ),
    MetricFamily(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory size of this exporter in bytes.",
        (),
        samples.process_value(lambda state: state.resident_bytes),
    ),
    MetricFamily(
        "process_open_fds",
        "gauge",
        "Number of open file descriptors of this exporter.",
        (),
        samples.process_value(lambda state: state.open_fds),
    ),
    MetricFamily(
        "process_start_time_seconds",
        "gauge",
        "Start time of this exporter in seconds since the Unix epoch.",
        (),
        samples.process_value(lambda state: state.started),
    ),
)


def metric_families(exported_labels: tuple[str, ...] = ()) -> tuple[MetricFamily, ...]:
    """Return all metric families.

    `exported_labels` are labels of runs; each becomes a label `label_*` of `run_info` and of the
    `owner_*` counters. Raises ConfigError if two of them map to the same label name.
    """
    info = _gauge(
        "run_info",
        (
            *RUN_LABELS,
            "run_name",
            "user",
            "workload_namespace",
            "origin",
            "account",
            *_label_names(exported_labels),
        ),
        samples.run_info(exported_labels),
        "Run metadata: name, user, namespace, origin and account; the value is always 1.",
    )
    owner = ("user", "workload_namespace", *_label_names(exported_labels))
    owners = (
        _durable_counter(
            "owner_energy_joules_total",
            owner,
            samples.owner_sums(exported_labels, lambda tally: units.joules(tally.counted_uj)),
            "Energy in joules of all runs of one owner, including runs that are no longer "
            "exported; the series is never removed.",
        ),
        _durable_counter(
            "owner_carbon_grams_total",
            owner,
            samples.owner_sums(exported_labels, lambda tally: units.grams(tally.counted_ng)),
            "Emissions in grams of CO2 equivalent of all runs of one owner, including runs that "
            "are no longer exported; the series is never removed.",
        ),
    )
    return (
        *DEVICE_FAMILIES,
        *NODE_FAMILIES,
        info,
        *RUN_FAMILIES,
        *owners,
        *GRID_FAMILIES,
        *DAEMON_FAMILIES,
    )


def _label_names(exported_labels: tuple[str, ...]) -> list[str]:
    names: dict[str, str] = {}
    for label in exported_labels:
        name = "label_" + re.sub(r"[^a-zA-Z0-9_]", "_", label)
        if name in names:
            raise ConfigError(
                f"attribute.exported_labels: {names[name]!r} and {label!r} would both become "
                f"{name}; leave one out"
            )
        names[name] = label
    return list(names)
