"""The metric catalogue: every family's name, type, meaning, labels and samples, in one table.

The page, the reference of metrics and the tests are made from it. Names and labels are a contract.
"""

import re
from typing import Literal, NamedTuple, TypeAlias

from exporter import units
from exporter.errors import ConfigError
from exporter.expose import samples
from exporter.expose.samples import DECIMALS, SampleFunction
from exporter.model.workload import UnattributedReason

PREFIX = "emissions_"

MetricType: TypeAlias = Literal["gauge", "counter"]


class MetricFamily(NamedTuple):
    """One metric family."""

    name: str
    """As it stands before its samples; a counter's ends in `_total`."""
    type: MetricType
    help: str
    labels: tuple[str, ...]
    samples: SampleFunction
    """From a view to label values, in the order of `labels`, and the number."""
    durable: bool = False
    """Goes on over a restart of the daemon, or begins again at zero; never in between."""


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
    UnattributedReason.IDLE: "Processors and memory: idle power, and memory that nothing uses.",
    UnattributedReason.OTHER: "Processors and memory: work of processes that are in no run, for "
    "example system "
    "services, or pods of namespaces that `attribute.namespaces` or "
    "`attribute.excluded_namespaces` leaves out.",
    UnattributedReason.UNALLOCATED: "GPUs: idle power of a GPU, or of the part of it, that no "
    "run holds; "
    "all of its energy while nothing is seen to use it.",
    UnattributedReason.UNKNOWN_PROCESS: "GPUs: work of processes that are in no run, or of "
    "processes that "
    "cannot be seen on a GPU that no run holds.",
    UnattributedReason.RESTART: "Energy that a hardware counter counted while the exporter was "
    "not running, as "
    "far as no run is known to have held the device for all of that time.",
}
"""Values of the label `reason`: why energy is attributed to no run."""

DEVICE_LABELS = ("device", "id")
RUN_LABELS = ("run_id", "job_id")
RUN_DEVICE_LABELS = (*RUN_LABELS, "device", "id")
RUN_BOUND_LABELS = (*RUN_LABELS, "bound")
GRID_LABELS = ("grid_zone", "signal", "basis", "accounting")

DEVICE_FAMILIES = (
    _gauge(
        "device_info",
        (*DEVICE_LABELS, "model", "vendor", "source", "index", "pci_bus_id"),
        samples.device_info,
        "Always 1; the labels say what the device is and which collector reads it.",
    ),
    _gauge(
        "device_power_watts",
        DEVICE_LABELS,
        samples.per_device(
            lambda state: None if state.power_watts is None else round(state.power_watts, DECIMALS)
        ),
        "Power of the device in watts, mean over the last sampling interval; absent while unknown.",
    ),
    _gauge(
        "device_power_limit_watts",
        DEVICE_LABELS,
        samples.per_device(lambda state: state.info.power_limit_watts),
        "Power limit in watts that is set on the device; absent where it has none.",
    ),
    _gauge(
        "device_utilization_ratio",
        DEVICE_LABELS,
        samples.per_device(lambda state: state.utilization),
        "Part of the time in which anything ran on the GPU, 0 to 1, as the driver tells it; absent "
        "while unknown, and in MIG mode.",
    ),
    _durable_counter(
        "device_energy_joules_total",
        (*DEVICE_LABELS, "method"),
        samples.counted_energy(lambda view: view.by_method),
        "Energy of the device in joules, by how it was got: read from a counter, integrated from "
        "power, or estimated.",
    ),
    _durable_counter(
        "device_carbon_grams_total",
        DEVICE_LABELS,
        samples.counted_carbon(lambda view: view.devices),
        "Emissions of the device's energy in grams of CO2 equivalent, PUE included.",
    ),
    _gauge(
        "device_cumulative_energy_joules",
        DEVICE_LABELS,
        samples.cumulative_energy(lambda view: view.devices),
        "Energy of the device in joules since the ledger began, over all restarts; for rates use "
        "the counter.",
    ),
    _gauge(
        "device_cumulative_carbon_grams",
        DEVICE_LABELS,
        samples.cumulative_carbon(lambda view: view.devices),
        "Emissions of the device in grams of CO2 equivalent since the ledger began, over all "
        "restarts; for rates use the counter.",
    ),
    _gauge(
        "device_up",
        DEVICE_LABELS,
        samples.per_device(lambda state: int(state.up)),
        "Whether the device could be read at the last tick, 1 or 0.",
    ),
    _gauge(
        "device_sample_age_seconds",
        DEVICE_LABELS,
        samples.per_device(lambda state: round(state.age_seconds, DECIMALS)),
        "Time in seconds since the last good reading of the device.",
    ),
    _counter(
        "device_energy_events_total",
        (*DEVICE_LABELS, "event"),
        samples.device_events,
        "Events of the device's energy counter: wraps, resets, glitches held back, gaps bridged.",
    ),
    _durable_counter(
        "attributed_energy_joules_total",
        DEVICE_LABELS,
        samples.counted_energy(lambda view: view.attributed),
        "Energy of the device in joules that was charged to runs, those off the page included; "
        "with the unattributed it sums to the device's.",
    ),
    _durable_counter(
        "attributed_carbon_grams_total",
        DEVICE_LABELS,
        samples.counted_carbon(lambda view: view.attributed),
        "Emissions of the device in grams of CO2 equivalent that were charged to runs, those off "
        "the page included.",
    ),
    _durable_counter(
        "unattributed_energy_joules_total",
        (*DEVICE_LABELS, "reason"),
        samples.counted_energy(lambda view: view.unattributed),
        "Energy of the device in joules that was charged to no run, by reason.",
    ),
    _durable_counter(
        "unattributed_carbon_grams_total",
        (*DEVICE_LABELS, "reason"),
        samples.counted_carbon(lambda view: view.unattributed),
        "Emissions of the device in grams of CO2 equivalent that were charged to no run, by "
        "reason.",
    ),
    _gauge(
        "unattributed_power_watts",
        (*DEVICE_LABELS, "reason"),
        samples.power_watts(lambda view: view.unattributed),
        "Power of the device in watts that is charged to no run, by reason.",
    ),
)

RUN_FAMILIES = (
    _gauge(
        "run_member_info",
        (*RUN_LABELS, "workload_pod", "workload_container"),
        samples.run_members,
        "Always 1; one for each container of the pods that the run has on this node.",
    ),
    _gauge(
        "run_power_watts",
        RUN_DEVICE_LABELS,
        samples.power_watts(lambda view: view.runs),
        "Power of the run in watts, by kind of device and by GPU; absent once it ended.",
    ),
    _durable_counter(
        "run_energy_joules_total",
        RUN_DEVICE_LABELS,
        samples.counted_energy(lambda view: view.runs),
        "Energy of the run in joules, by kind of device and by GPU, idle energy of what it holds "
        "included; the kernel does not say which socket a process used, so cpu and dram have no "
        "id.",
    ),
    _durable_counter(
        "run_carbon_grams_total",
        RUN_DEVICE_LABELS,
        samples.counted_carbon(lambda view: view.runs),
        "Emissions of the run in grams of CO2 equivalent, PUE included, by kind of device and by "
        "GPU.",
    ),
    _durable_counter(
        "run_held_idle_energy_joules_total",
        (*RUN_LABELS, "device"),
        samples.run_held_idle,
        "Energy in joules that devices held by the run spent idle; a part of the run's energy.",
    ),
    _gauge(
        "run_cumulative_energy_joules",
        RUN_DEVICE_LABELS,
        samples.cumulative_energy(lambda view: view.runs),
        "Energy of the run in joules since its first start, over all restarts; for rates use the "
        "counter.",
    ),
    _gauge(
        "run_cumulative_carbon_grams",
        RUN_LABELS,
        samples.run_cumulative_carbon,
        "Emissions of the run in grams of CO2 equivalent since its first start, over all its "
        "devices and all restarts; for rates use the counter.",
    ),
    _gauge(
        "run_start_time_seconds",
        RUN_LABELS,
        samples.per_run(lambda run: run.started),
        "When the run first started, in seconds since the epoch.",
    ),
    _gauge(
        "run_end_time_seconds",
        RUN_LABELS,
        samples.per_run(lambda run: run.ended),
        "When the run ended, in seconds since the epoch; absent while it is running.",
    ),
    _gauge(
        "run_budget_grams",
        RUN_LABELS,
        samples.per_run(lambda run: run.budget_grams),
        "Budget of the run in grams of CO2 equivalent; absent where none was set.",
    ),
    _durable_counter(
        "run_units_total",
        (*RUN_LABELS, "unit"),
        samples.run_units,
        "What the run counts of its own, by unit: tokens, requests, samples.",
    ),
    _gauge(
        "run_forecast_grams",
        RUN_LABELS,
        samples.run_forecast(lambda ahead: units.grams(ahead.carbon_ng)),
        "Emissions in grams of CO2 equivalent that the run will have caused on this node when its "
        "work is done; absent where it does not say how far it has come, and as long as no energy "
        "was measured between its reports of progress.",
    ),
    _gauge(
        "run_forecast_end_time_seconds",
        RUN_LABELS,
        samples.run_forecast(lambda ahead: round(ahead.ends, DECIMALS)),
        "When the run's work will be done, in seconds since the epoch; absent as above.",
    ),
    _gauge(
        "run_forecast_energy_joules",
        RUN_LABELS,
        samples.run_forecast(lambda ahead: units.joules(ahead.energy_uj)),
        "Energy in joules that the run will have used on this node when its work is done; absent "
        "as above.",
    ),
    _gauge(
        "run_forecast_bound_grams",
        RUN_BOUND_LABELS,
        samples.run_forecast_bounds(lambda bound: units.grams(bound.carbon_ng)),
        "Range of the forecast in grams, `low` to `high`: 95 of 100 runs that go on as unevenly as "
        "before end in it; absent until three stretches of work can be compared.",
    ),
    _gauge(
        "run_forecast_bound_energy_joules",
        RUN_BOUND_LABELS,
        samples.run_forecast_bounds(lambda bound: units.joules(bound.energy_uj)),
        "The same of the energy, in joules.",
    ),
    _gauge(
        "run_forecast_bound_end_time_seconds",
        RUN_BOUND_LABELS,
        samples.run_forecast_bounds(lambda bound: round(bound.ends, DECIMALS)),
        "The same of the end, in seconds since the epoch.",
    ),
)

GRID_FAMILIES = (
    _gauge(
        "grid_intensity_grams_per_kwh",
        GRID_LABELS,
        samples.per_factor(lambda _, factor: factor.grams_per_kwh),
        "Carbon intensity in force, in grams of CO2 equivalent per kilowatt hour, without PUE; "
        "absent while there is none.",
    ),
    _gauge(
        "grid_intensity_age_seconds",
        GRID_LABELS,
        samples.per_factor(lambda state, _: state.age_seconds),
        "Age in seconds of the carbon intensity in force; absent where nobody says its time.",
    ),
    _gauge(
        "grid_intensity_fallback_step",
        GRID_LABELS,
        samples.per_factor(lambda _, factor: factor.step),
        "Place of the carbon intensity in force in the chain of sources; 0 is what was asked for.",
    ),
    _gauge(
        "grid_intensity_info",
        (*GRID_LABELS, "source", "estimated"),
        samples.grid_info,
        "Always 1; the labels say where the carbon intensity in force comes from.",
    ),
    _counter(
        "grid_intensity_requests_total",
        ("source", "outcome"),
        samples.grid_requests,
        "Requests to live sources of carbon intensity, by how they went; `ok` is a good answer.",
    ),
    _gauge(
        "pue_ratio",
        (),
        samples.pue,
        "Power usage effectiveness that emissions are multiplied by: facility energy over machine "
        "energy.",
    ),
)

DAEMON_FAMILIES = (
    _gauge(
        "attribution_imbalance_joules",
        (),
        samples.health_value(lambda health: units.joules(health.imbalance_uj)),
        "Energy of devices minus all that was charged to runs and reasons, in joules; always 0.",
    ),
    _gauge(
        "collector_success",
        ("collector",),
        samples.collector_success,
        "Whether the collector worked at its last try, 1 or 0.",
    ),
    _gauge(
        "collector_duration_seconds",
        ("collector",),
        samples.collector_duration,
        "Time in seconds that the collector's last try took.",
    ),
    _gauge(
        "config_last_reload_successful",
        (),
        samples.config_reload,
        "Whether the settings could be read at the last reload, 1 or 0; then the old ones stay.",
    ),
    _counter(
        "driver_calls_total",
        ("call",),
        samples.driver_calls,
        "Calls into the drivers of devices, by the driver's function.",
    ),
    _counter(
        "driver_call_seconds_total",
        ("call",),
        samples.driver_seconds,
        "Time in these calls in seconds, spent beside the loop and not in it.",
    ),
    _gauge(
        "loop_duration_seconds",
        (),
        samples.health_value(lambda health: health.loop_seconds),
        "Time in seconds that the last tick took, from sampling to the finished page.",
    ),
    _counter(
        "loop_overruns_total",
        (),
        samples.health_value(lambda health: health.loop_overruns),
        "Ticks that came late because the one before took too long.",
    ),
    _counter(
        "ledger_errors_total",
        (),
        samples.health_value(lambda health: health.ledger_errors),
        "Commits of the ledger that failed and were kept in memory to be tried again.",
    ),
    _gauge(
        "ledger_commit_age_seconds",
        (),
        samples.health_value(lambda health: round(health.commit_age_seconds, DECIMALS)),
        "Time in seconds since the ledger was last written to disk.",
    ),
    _counter(
        "series_dropped_total",
        (),
        samples.health_value(lambda health: health.series_dropped),
        "Runs that got no series of their own because too many were shown; they are counted in "
        "run_id other.",
    ),
    _counter(
        "exporter_energy_joules_total",
        (),
        samples.health_value(lambda health: units.joules(health.exporter_energy_uj)),
        "Energy in joules that this exporter itself used since it started; also inside the energy "
        "of the devices.",
    ),
    _gauge(
        "exporter_build_info",
        ("version", "python"),
        samples.build_info,
        "Always 1; the labels say which exporter this is and which Python runs it.",
    ),
    MetricFamily(
        "process_cpu_seconds_total",
        "counter",
        "CPU time of this exporter in seconds, user and system.",
        (),
        samples.process_value(lambda state: state.cpu_seconds),
    ),
    MetricFamily(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory of this exporter in bytes.",
        (),
        samples.process_value(lambda state: state.resident_bytes),
    ),
    MetricFamily(
        "process_open_fds",
        "gauge",
        "Open file descriptors of this exporter.",
        (),
        samples.process_value(lambda state: state.open_fds),
    ),
    MetricFamily(
        "process_start_time_seconds",
        "gauge",
        "When this exporter started, in seconds since the epoch.",
        (),
        samples.process_value(lambda state: state.started),
    ),
)


def metric_families(exported_labels: tuple[str, ...] = ()) -> tuple[MetricFamily, ...]:
    """All families; `exported_labels` of runs become `label_*` of the family `run_info`.

    Raises ConfigError if two of them become one label name.
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
        "Always 1; the labels say what the run is, whose it is and how it became known.",
    )
    owner = ("user", "workload_namespace", *_label_names(exported_labels))
    owners = (
        _durable_counter(
            "owner_energy_joules_total",
            owner,
            samples.owner_sums(exported_labels, lambda tally: units.joules(tally.counted_uj)),
            "Energy in joules of all runs of one owner, those off the page included; never taken "
            "off the page.",
        ),
        _durable_counter(
            "owner_carbon_grams_total",
            owner,
            samples.owner_sums(exported_labels, lambda tally: units.grams(tally.counted_ng)),
            "Emissions in grams of CO2 equivalent of all runs of one owner, those off the page "
            "included; never taken off the page.",
        ),
    )
    return (*DEVICE_FAMILIES, info, *RUN_FAMILIES, *owners, *GRID_FAMILIES, *DAEMON_FAMILIES)


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
