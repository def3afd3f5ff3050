"""Settings: types, units, defaults and help texts. `exporter.config_loader` loads them.

Order of precedence: flag, `EMISSIONS_EXPORTER_<SECTION>_<KEY>`, file, default. The top-level keys
of the file are the five stages of the pipeline; an unknown key is an error.
`docs/configuration.md` is generated from this file.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from exporter.model.intensity import kg_per_kwh_error
from exporter.setting import EntryForm, setting

DEFAULT_PORT = 10680
SYSTEM_STATE_DIRECTORY = "/var/lib/emissions-exporter"
NAMESPACE = EntryForm(
    "names of namespaces without wildcards (lowercase letters, digits and '-')",
    "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
)
"""Names of namespaces in Kubernetes: labels as in RFC 1123."""
NO_LISTENER = "none"
"""Listen address that disables HTTP over TCP."""


def default_state_directory() -> str:
    """Return the default of `account.state_directory` for the current user.

    `/var/lib/emissions-exporter` for root, a directory under `$XDG_STATE_HOME` for other users;
    empty for a user without a home directory.
    """
    if os.geteuid() == 0:
        return SYSTEM_STATE_DIRECTORY
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return "" if base.startswith("~") else os.path.join(base, "emissions-exporter")


@dataclass(frozen=True)
class SampleConfig:
    """Stage sample: reading energy counters and power sensors."""

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
        "Idle power of one hardware thread, used where no energy counter can be read. Defaults to "
        "a value derived from the processor model, or to the published average for guests.",
        least=0,
    )
    cpu_full_watts_per_thread: float | None = setting(
        None,
        "watts",
        "Power of one hardware thread at full load. Same default as for idle power.",
        least=0,
    )
    dram_watts_per_gb: float | None = setting(
        None,
        "watts per GB",
        "Power of memory, used where no energy counter can be read. Defaults to the published "
        "average.",
        least=0,
    )
    node_query_url: str = setting(
        "",
        "URL",
        "Prometheus server with the power of this node, measured by a power distribution unit, a "
        "smart plug or a management controller, for example `http://prometheus:9090`.",
    )
    node_query: str = setting(
        "",
        "PromQL",
        "Query whose result is the power of this node in watts, in one series. `$node` is replaced "
        "by the name of the node.",
    )
    node_query_token_file: str = setting(
        "",
        "path",
        "File with a bearer token for the server. Defaults to no token.",
        place="file",
    )
    node_query_seconds: float = setting(
        15, "seconds", "Time between two queries.", least=1, most=120
    )
    node_lag_seconds: float | None = setting(
        None,
        "seconds",
        "Time by which the values of the node's meter are late. The energy of the devices is "
        "subtracted as of then. Defaults to half of the time over which an ACPI power meter "
        "averages, and to 0 for other meters.",
        least=0,
        most=300,
    )
    node_includes_gpus: bool = setting(
        True,
        "",
        "Whether the node's meter includes the GPUs, which may have a supply of their own.",
    )
    replay: str = setting(
        "",
        "path",
        "Recorded host to replay instead of reading this machine.",
        place="file",
    )


@dataclass(frozen=True)
class AttributeConfig:
    """Stage attribute: dividing energy among runs."""

    max_runs: int = setting(
        200,
        "runs",
        "Maximum number of runs with their own series, of which nine tenths may be named by "
        "processes of one user; energy of further runs is counted as `other`.",
        least=1,
    )
    retain_ended_seconds: float = setting(
        900,
        "seconds",
        "Time for which the series of an ended run continue to be exported.",
        least=0,
    )
    read_environments: bool = setting(
        True, "", "Read run and job ids from the environments of processes, where permitted."
    )
    jobs_directory: str = setting(
        "/run/emissions-exporter/jobs",
        "path",
        "Directory in which the scheduler's prolog writes the owner and the GPUs of each job.",
        place="directory",
    )
    node_name: str = setting(
        "",
        "",
        "Name of this node in Kubernetes. If set, pod metadata is read from the API server. Set it "
        "in a manifest with `fieldRef: spec.nodeName`.",
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
        "Directory of the token and the CA certificate for the API server. If empty, the API "
        "server is not queried, and pods are identified by their uid only.",
    )
    namespaces: tuple[str, ...] = setting(
        (),
        "",
        "Namespaces whose pods are measured as runs. Defaults to all except `excluded_namespaces`.",
        form=NAMESPACE,
    )
    excluded_namespaces: tuple[str, ...] = setting(
        (),
        "",
        "Namespaces whose pods are not runs; their energy is counted as `other`.",
        form=NAMESPACE,
    )
    gpu_resources: tuple[str, ...] = setting(
        (),
        "",
        "Kubernetes resources whose devices are GPUs, in addition to `nvidia.com/gpu`, "
        "`nvidia.com/mig-*`, `nvidia.com/*.shared`, `amd.com/gpu`, `amd.com/*_nps*`, "
        "`gpu.intel.com/i915` and `gpu.intel.com/xe`; `*` matches any text. For renamed resources "
        "and other device plugins, for example `k8s.amazonaws.com/vgpu`.",
    )
    exported_labels: tuple[str, ...] = setting(
        (),
        "",
        "Labels of runs to export as `label_*` of `emissions_run_info`. In the names of these, all "
        "characters other than letters, digits and `_` become `_`: `cost-center` is "
        "`label_cost_center`.",
    )


@dataclass(frozen=True)
class ConvertConfig:
    """Stage convert: from energy to grams of CO2 equivalent."""

    zone: str = setting(
        "",
        "",
        "Location of the machine: a country (`DE`), a region (`US-CA`), a zone of Electricity Maps "
        "(`US-CAL-CISO`) or a cloud region (`aws:eu-west-1`). If empty, the world average is used "
        "and a warning is logged.",
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
        "Sources of carbon intensity in order of preference, each by name or with its options; see "
        "below. Defaults to `static` if `grams_per_kwh` is set, else `file` if `file` is set, then "
        "`table`.",
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
        "Sources of a second carbon intensity, marginal or market-based, exported as separate "
        "series. It is not used to convert energy.",
    )
    grams_per_kwh: float | None = setting(
        None,
        "g/kWh",
        "A fixed carbon intensity, 0 or at least 1; takes precedence over every table.",
        least=0,
        error=kg_per_kwh_error,
    )
    basis: Literal["lifecycle", "direct", "unstated"] = setting(
        "unstated", "", "Basis of the values of `grams_per_kwh` and `file`."
    )
    accounting: Literal["location", "market"] = setting(
        "location", "", "Whether those values follow the grid or your contracts."
    )
    source: str = setting("", "", "Source of those values; shown in records and reports.")
    file: str = setting(
        "",
        "path",
        "Carbon intensities over time, CSV or JSON; each row is valid from its time until the "
        "next.",
        place="file",
    )
    file_max_age_seconds: float = setting(
        7200, "seconds", "Time for which the last row of the file is valid.", least=0
    )
    pue: float = setting(
        1.0,
        "ratio",
        "Power usage effectiveness: energy of the facility divided by energy of the machines.",
        least=1,
        most=5,
    )


@dataclass(frozen=True)
class AccountConfig:
    """Stage account: storing totals."""

    state_directory: str = setting(
        "",
        "path",
        "Directory for the ledger and the journal. Defaults to `/var/lib/emissions-exporter` for "
        "root, `$XDG_STATE_HOME/emissions-exporter` for other users.",
        flag="path.state",
        place="directory",
    )
    commit_seconds: float = setting(
        30, "seconds", "Interval between commits to the ledger.", least=1, most=3600
    )
    keep_minutes_days: float = setting(
        35, "days", "Retention of usage by minute; older usage is kept by hour.", least=1
    )
    keep_hours_days: float = setting(
        400, "days", "Retention of usage by hour; totals are never deleted.", least=1
    )


@dataclass(frozen=True)
class ExposeConfig:
    """Stage expose: metrics, page, API and logs."""

    listen_address: str = setting(
        f":{DEFAULT_PORT}",
        "host:port",
        "Address to serve HTTP on; `none` disables HTTP and leaves only the agent socket.",
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
        "Web configuration file of the Prometheus exporter toolkit: TLS, client certificates, "
        "passwords, headers and rate limits; see web-config.md. If empty, none of these apply.",
        flag="web.config.file",
        place="file",
    )
    exit_when_idle_seconds: float | None = setting(
        None,
        "seconds",
        "Exit after no registered run has been running for this time. Private daemons use it. If "
        "empty, the daemon never exits on its own.",
        flag="exit-when-idle",
        least=1,
    )
    socket: str = setting(
        "",
        "path",
        "Path of the agent socket, on which programs register runs. Defaults to "
        "`/run/emissions-exporter/agent.sock` for root, a path under `$XDG_RUNTIME_DIR` for other "
        "users.",
        flag="socket.path",
        place="socket",
    )
    node: str = setting(
        "",
        "",
        "Name of this machine in records and on the page. Defaults to its host name, or to the "
        "name of the recorded host in a replay.",
    )
    max_connections: int = setting(
        512,
        "connections",
        "Maximum number of open connections; beyond it, the connection that was idle longest is "
        "closed.",
        least=8,
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "", "Lowest severity to log.", flag="log.level"
    )
    log_format: Literal["logfmt", "json"] = setting(
        "logfmt", "", "Format of log lines.", flag="log.format"
    )


@dataclass(frozen=True)
class Config:
    """All settings, one section per stage of the pipeline."""

    sample: SampleConfig = field(default_factory=SampleConfig)
    attribute: AttributeConfig = field(default_factory=AttributeConfig)
    convert: ConvertConfig = field(default_factory=ConvertConfig)
    account: AccountConfig = field(default_factory=AccountConfig)
    expose: ExposeConfig = field(default_factory=ExposeConfig)
