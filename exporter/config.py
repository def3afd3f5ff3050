"""Configuration schema: types, units, defaults and help texts; exporter.settings loads it.

Order of precedence: flag, then `EMISSIONS_EXPORTER_<SECTION>_<KEY>`, then file, then default. The
top-level keys of the file are the five stages of the pipeline; an unknown key is an error.
`docs/configuration.md` is generated from this file.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from exporter.model.intensity import kg_per_kwh_error
from exporter.setting import setting

DEFAULT_PORT = 10680
COLLECTORS = ("nvml", "rapl", "cpu_estimate", "dram_estimate")
"""Names accepted by `sample.collectors`."""
SYSTEM_STATE_DIRECTORY = "/var/lib/emissions-exporter"
NO_LISTENER = "none"
"""The listen address that disables HTTP."""


def default_state_directory() -> str:
    """Return the default state directory: of the system for root, of the user otherwise.

    Empty for a user without a home directory.
    """
    if os.geteuid() == 0:
        return SYSTEM_STATE_DIRECTORY
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return "" if base.startswith("~") else os.path.join(base, "emissions-exporter")


@dataclass(frozen=True)
class SampleConfig:
    """Reading energy counters and power sensors."""

    interval_seconds: float = setting(
        1.0, "seconds", "Sampling interval.", flag="sample.interval", least=0.1, most=60
    )
    collectors: Mapping[str, bool] = setting(
        {},
        "",
        "Collectors to enable or disable by name, for example `{rapl: false}`.",
        flag="collector",
    )
    sysfs: str = setting(
        "/sys", "path", "Mount point of sysfs.", flag="path.sysfs", place="directory"
    )
    procfs: str = setting(
        "/proc", "path", "Mount point of procfs.", flag="path.procfs", place="directory"
    )
    cpu_idle_watts_per_thread: float | None = setting(
        None,
        "watts",
        "Idle power of one hardware thread, used if no energy counter can be read. Defaults to a "
        "value derived from the processor model, or to the cited value for virtual machines.",
        least=0,
    )
    cpu_full_watts_per_thread: float | None = setting(
        None,
        "watts",
        "Power of one hardware thread at full load, used if no energy counter can be read. "
        "Same default as `cpu_idle_watts_per_thread`.",
        least=0,
    )
    dram_watts_per_gb: float | None = setting(
        None,
        "watts per GB",
        "Power of memory per GB, used if no energy counter can be read. Defaults to the cited "
        "value.",
        least=0,
    )
    replay: str = setting(
        "",
        "path",
        "Recorded or synthetic host to replay instead of reading this machine.",
        place="file",
    )


@dataclass(frozen=True)
class AttributeConfig:
    """Attributing energy to runs."""

    max_runs: int = setting(
        200,
        "runs",
        "Maximum number of runs with series of their own; further runs are counted as `other`.",
        least=1,
    )
    retain_ended_seconds: float = setting(
        900, "seconds", "Time for which the series of an ended run stay exported.", least=0
    )
    read_environments: bool = setting(
        True,
        "",
        "Search the environments of processes for run and job ids, where they are readable.",
    )
    jobs_directory: str = setting(
        "/run/emissions-exporter/jobs",
        "path",
        "Directory in which the scheduler's prolog records the owner and the GPUs of each job.",
        place="directory",
    )
    node_name: str = setting(
        "",
        "",
        "Name of this node in Kubernetes; required to look up pods at the API server. In a "
        "manifest: `fieldRef: spec.nodeName`.",
    )
    kubelet_socket: str = setting(
        "/var/lib/kubelet/pod-resources/kubelet.sock",
        "path",
        "PodResources socket of the kubelet, which reports the devices of each container. Not used "
        "if its directory does not exist.",
    )
    service_account: str = setting(
        "/var/run/secrets/kubernetes.io/serviceaccount",
        "path",
        "Directory with the token and the CA certificate for the API server. If empty, the API "
        "server is not used and pods are identified by their uid.",
    )
    namespaces: tuple[str, ...] = setting(
        (), "", "Namespaces in which pods are runs. Empty: all except `excluded_namespaces`."
    )
    excluded_namespaces: tuple[str, ...] = setting(
        (), "", "Namespaces in which pods are not runs; their usage is attributed to `other`."
    )
    gpu_resources: tuple[str, ...] = setting(
        (),
        "",
        "Additional Kubernetes resources that are GPUs, besides `nvidia.com/gpu`, "
        "`nvidia.com/mig-*` and `nvidia.com/*.shared`; `*` matches any text. For renamed resources "
        "and other device plugins, for example `k8s.amazonaws.com/vgpu`.",
    )
    exported_labels: tuple[str, ...] = setting(
        (),
        "",
        "Run labels to export as `label_*` of `emissions_run_info` and of the owner counters.",
    )


@dataclass(frozen=True)
class ConvertConfig:
    """Converting energy to emissions."""

    zone: str = setting(
        "",
        "",
        "Location of the machine: a country (`DE`), a region (`US-CA`), an Electricity Maps zone "
        "(`US-CAL-CISO`) or a cloud region (`aws:eu-west-1`). If empty, the world average is used "
        "with a warning.",
        flag="convert.zone",
    )
    cloud_metadata: bool = setting(
        False,
        "",
        "If no zone is set, query the metadata service of AWS, Google Cloud or Azure for the "
        "region, once at startup.",
    )
    sources: tuple[Any, ...] = setting(
        (),
        "",
        "Sources of carbon intensity in order of preference, each by name alone or with its "
        "options; see below. Defaults to `static` if `grams_per_kwh` is set, else `file` if that "
        "is set, then `table`.",
    )
    fallback: Literal["same", "any"] = setting(
        "same",
        "",
        "Which sources may replace the first one when it fails: those of the same kind (signal, "
        "basis, accounting), or any.",
    )
    second: tuple[Any, ...] = setting(
        (),
        "",
        "Sources of a second intensity, marginal or market-based, exported as separate series. It "
        "is not used to calculate emissions.",
    )
    grams_per_kwh: float | None = setting(
        None,
        "g/kWh",
        "Fixed carbon intensity, 0 or at least 1; takes precedence over every table.",
        least=0,
        error=kg_per_kwh_error,
    )
    basis: Literal["lifecycle", "direct", "unstated"] = setting(
        "unstated",
        "",
        "Basis of `grams_per_kwh` and `file`: life cycle, direct emissions only, or not stated.",
    )
    accounting: Literal["location", "market"] = setting(
        "location",
        "",
        "Accounting method of `grams_per_kwh` and `file`: location-based (the grid) or "
        "market-based (your contracts).",
    )
    source: str = setting(
        "",
        "",
        "Origin of `grams_per_kwh` and `file`, shown as the source of the emissions calculated "
        "with them.",
    )
    file: str = setting(
        "",
        "path",
        "Carbon intensities over time, CSV or JSON: each row is valid from its time until the "
        "next.",
        place="file",
    )
    file_max_age_seconds: float = setting(
        7200, "seconds", "Validity of the last row of the file.", least=0
    )
    pue: float = setting(
        1.0,
        "ratio",
        "Power usage effectiveness: facility energy divided by machine energy.",
        least=1,
        most=5,
    )


@dataclass(frozen=True)
class AccountConfig:
    """Accounting: storing totals and history."""

    state_directory: str = setting(
        "",
        "path",
        "Directory for the ledger and the journal. Defaults to `/var/lib/emissions-exporter` for "
        "root and `$XDG_STATE_HOME/emissions-exporter` for other users.",
        flag="path.state",
        place="directory",
    )
    commit_seconds: float = setting(
        30, "seconds", "Interval between two commits of the ledger.", least=1, most=3600
    )
    keep_minutes_days: float = setting(
        35, "days", "Retention of usage by minute; older usage is kept by hour.", least=1
    )
    keep_hours_days: float = setting(
        400, "days", "Retention of usage by hour; totals are kept forever.", least=1
    )


@dataclass(frozen=True)
class ExposeConfig:
    """Exposing metrics, the live page and the APIs."""

    listen_address: str = setting(
        f":{DEFAULT_PORT}",
        "host:port",
        "Address on which HTTP is served; `none` disables HTTP and leaves only the agent socket.",
        flag="web.listen-address",
    )
    telemetry_path: str = setting(
        "/metrics",
        "",
        "HTTP path of the metrics; must equal `metrics_path` of the scrape configuration.",
        flag="web.telemetry-path",
    )
    web_config_file: str = setting(
        "",
        "path",
        "Web configuration file: TLS, client certificates, passwords, headers and rate limits, in "
        "the format of Prometheus exporters; see web-config.md. Empty: none of these.",
        flag="web.config.file",
        place="file",
    )
    exit_when_idle_seconds: float | None = setting(
        None,
        "seconds",
        "Exit after no registered run has been active for this time; used by daemons that a "
        "program starts for itself. Empty: never.",
        flag="exit-when-idle",
        least=1,
    )
    socket: str = setting(
        "",
        "path",
        "Agent socket, on which runs are registered. Defaults to "
        "`/run/emissions-exporter/agent.sock` for root and to a path under `$XDG_RUNTIME_DIR` for "
        "other users.",
        flag="socket.path",
        place="socket",
    )
    node: str = setting(
        "",
        "",
        "Name of this machine in records and on the live page. Defaults to the host name; in a "
        "replay, to that of the recorded host.",
    )
    max_connections: int = setting(
        512,
        "connections",
        "Maximum number of open connections; at the limit the connection that was idle longest "
        "is closed.",
        least=8,
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "", "Minimum severity of log messages.", flag="log.level"
    )
    log_format: Literal["logfmt", "json"] = setting(
        "logfmt", "", "Format of log lines.", flag="log.format"
    )


@dataclass(frozen=True)
class Config:
    """All settings, one section per stage."""

    sample: SampleConfig = field(default_factory=SampleConfig)
    attribute: AttributeConfig = field(default_factory=AttributeConfig)
    convert: ConvertConfig = field(default_factory=ConvertConfig)
    account: AccountConfig = field(default_factory=AccountConfig)
    expose: ExposeConfig = field(default_factory=ExposeConfig)
