"""Settings: their types, units, defaults and texts; exporter.settings loads them.

Order of precedence: flag, then `EMISSIONS_EXPORTER_<SECTION>_<KEY>`, then file, then default.
The top-level keys of the file are the five verbs of the pipeline; a key that is not known is an
error. `docs/configuration.md` is made from this file.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from exporter.model.intensity import kilogram_error
from exporter.setting import key

PORT = 10680
COLLECTORS = ("nvml", "rapl", "cpu_estimate", "dram_estimate")
"""Names that `sample.collectors` knows."""
SYSTEM_STATE_DIRECTORY = "/var/lib/emissions-exporter"
NOWHERE = "none"
"""As a listen address."""


def default_state_directory() -> str:
    """Where totals are kept: the system's place for root, the user's own for anyone else.

    Empty for a user without a home.
    """
    if os.geteuid() == 0:
        return SYSTEM_STATE_DIRECTORY
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return "" if base.startswith("~") else os.path.join(base, "emissions-exporter")


@dataclass(frozen=True)
class Sample:
    """Reading the hardware."""

    interval_seconds: float = key(
        1.0, "seconds", "Time between two looks.", flag="sample.interval", least=0.1, most=60
    )
    collectors: Mapping[str, bool] = key(
        {},
        "",
        "Collectors to switch off or on by name, for example `{rapl: false}`.",
        flag="collector",
    )
    sysfs: str = key(
        "/sys", "path", "Where sysfs is mounted.", flag="path.sysfs", place="directory"
    )
    procfs: str = key(
        "/proc", "path", "Where procfs is mounted.", flag="path.procfs", place="directory"
    )
    cpu_idle_watts_per_thread: float | None = key(
        None,
        "watts",
        "Idle power of one hardware thread, where no counter can be read. "
        "Empty: from the processor's model, or the cited pair for guests.",
        least=0,
    )
    cpu_full_watts_per_thread: float | None = key(
        None, "watts", "Power of one hardware thread at full load; see above.", least=0
    )
    dram_watts_per_gb: float | None = key(
        None,
        "watts per GB",
        "Power of memory where no counter can be read. Empty: the cited value.",
        least=0,
    )
    replay: str = key(
        "",
        "path",
        "Play this recorded or made-up host instead of reading the machine.",
        place="file",
    )


@dataclass(frozen=True)
class Attribute:
    """Finding out whose energy it was."""

    max_runs: int = key(
        200, "runs", "Runs with series of their own; more are counted as `other`.", least=1
    )
    retain_ended_seconds: float = key(
        900, "seconds", "How long the series of an ended run stay on the page.", least=0
    )
    read_environments: bool = key(
        True, "", "Look for run and job ids in the environments of processes, where readable."
    )
    jobs_directory: str = key(
        "/run/emissions-exporter/jobs",
        "path",
        "Where the scheduler's prolog writes down whose a job is and which GPUs it was given.",
        place="directory",
    )
    node_name: str = key(
        "",
        "",
        "Name of this node in Kubernetes; with it, pods are looked up at the API server. In a "
        "manifest: `fieldRef: spec.nodeName`.",
    )
    kubelet_socket: str = key(
        "/var/lib/kubelet/pod-resources/kubelet.sock",
        "path",
        "Where the kubelet tells which container has which device. Without its directory it is "
        "not asked.",
    )
    service_account: str = key(
        "/var/run/secrets/kubernetes.io/serviceaccount",
        "path",
        "Where the token for the API server is, and whom to trust as that. Empty: it is not asked, "
        "and pods go by their uid.",
    )
    namespaces: tuple[str, ...] = key(
        (), "", "Namespaces whose pods are runs. Empty: all but those below."
    )
    excluded_namespaces: tuple[str, ...] = key(
        (), "", "Namespaces whose pods are no runs; what they use is `other`."
    )
    gpu_resources: tuple[str, ...] = key(
        (),
        "",
        "Further resources of Kubernetes whose devices are GPUs, beside `nvidia.com/gpu`, "
        "`nvidia.com/mig-*` and `nvidia.com/*.shared`; `*` is any text. For renamed resources and "
        "other device plugins, for example `k8s.amazonaws.com/vgpu`.",
    )
    exported_labels: tuple[str, ...] = key(
        (), "", "Labels of runs that become `label_*` of `emissions_run_info`."
    )


@dataclass(frozen=True)
class Convert:
    """From energy to grams."""

    zone: str = key(
        "",
        "",
        "Where the machine is: a country (`DE`), a region (`US-CA`), a zone of Electricity Maps "
        "(`US-CAL-CISO`) or a cloud region (`aws:eu-west-1`). Empty: the world average is used, "
        "and said so.",
        flag="convert.zone",
    )
    cloud_metadata: bool = key(
        False,
        "",
        "Where no zone is set, ask the metadata service of AWS, Google Cloud or Azure for the "
        "region, once at the start.",
    )
    sources: tuple[Any, ...] = key(
        (),
        "",
        "Sources of intensity in order of preference, each alone or with its options; see below. "
        "Empty: `static` if `grams_per_kwh` is set, else `file` if that is set, then `table`.",
    )
    fallback: Literal["same", "any"] = key(
        "same",
        "",
        "Which of them may stand in for the first: those that count the same (signal, basis, "
        "accounting), or any.",
    )
    second: tuple[Any, ...] = key(
        (),
        "",
        "Sources of a second intensity, marginal or market-based, shown beside the first as series "
        "of its own. No grams are counted with it.",
    )
    grams_per_kwh: float | None = key(
        None,
        "g/kWh",
        "A fixed intensity of your own, 0 or at least 1; goes before every table.",
        least=0,
        error=kilogram_error,
    )
    basis: Literal["lifecycle", "direct", "unstated"] = key(
        "unstated", "", "What the numbers of `grams_per_kwh` and `file` count."
    )
    accounting: Literal["location", "market"] = key(
        "location", "", "Whether they follow the grid or your contracts."
    )
    source: str = key("", "", "Who says so; shown beside every gram that they made.")
    file: str = key(
        "",
        "path",
        "Intensities over time, CSV or JSON: each row holds from its time until the next.",
        place="file",
    )
    file_max_age_seconds: float = key(
        7200, "seconds", "How long the last row of the file holds.", least=0
    )
    pue: float = key(
        1.0,
        "ratio",
        "Power usage effectiveness: energy of the building over energy of the machines.",
        least=1,
        most=5,
    )


@dataclass(frozen=True)
class Account:
    """Keeping the totals."""

    state_directory: str = key(
        "",
        "path",
        "Where ledger and journal are kept. Empty: `/var/lib/emissions-exporter` for root, "
        "`$XDG_STATE_HOME/emissions-exporter` for anyone else.",
        flag="path.state",
        place="directory",
    )
    commit_seconds: float = key(
        30, "seconds", "Time between two commits of the ledger.", least=1, most=3600
    )
    keep_minutes_days: float = key(
        35, "days", "How long usage is kept by the minute; then by the hour.", least=1
    )
    keep_hours_days: float = key(
        400, "days", "How long usage is kept by the hour; totals are kept for ever.", least=1
    )


@dataclass(frozen=True)
class Expose:
    """Showing the numbers."""

    listen_address: str = key(
        f":{PORT}",
        "host:port",
        "Where HTTP is served; `none`: nowhere, there is only the agent socket.",
        flag="web.listen-address",
    )
    telemetry_path: str = key(
        "/metrics",
        "",
        "HTTP path of the metrics; `metrics_path` of the scrape has to be the same.",
        flag="web.telemetry-path",
    )
    web_config_file: str = key(
        "",
        "path",
        "TLS, client certificates, passwords, headers and rates of HTTP, as in exporters of "
        "Prometheus; see web-config.md. Empty: none of them.",
        flag="web.config.file",
        place="file",
    )
    exit_when_idle_seconds: float | None = key(
        None,
        "seconds",
        "Stop when no registered run has been running for so long, as a daemon does that a "
        "program started for itself. Empty: never.",
        flag="exit-when-idle",
        least=1,
    )
    socket: str = key(
        "",
        "path",
        "The agent socket, where runs are registered. Empty: "
        "`/run/emissions-exporter/agent.sock` for root, under `$XDG_RUNTIME_DIR` for anyone else.",
        flag="socket.path",
        place="socket",
    )
    node: str = key(
        "",
        "",
        "Name of this machine in records and on the page. Empty: its host name, or in a replay "
        "that of the recorded host.",
    )
    max_connections: int = key(
        512, "connections", "Open at once; then the one that was silent longest is closed.", least=8
    )
    log_level: Literal["debug", "info", "warning", "error"] = key(
        "info", "", "Least severity that is logged.", flag="log.level"
    )
    log_format: Literal["logfmt", "json"] = key(
        "logfmt", "", "How log lines are written.", flag="log.format"
    )


@dataclass(frozen=True)
class Config:
    """All settings, one section per verb."""

    sample: Sample = field(default_factory=Sample)
    attribute: Attribute = field(default_factory=Attribute)
    convert: Convert = field(default_factory=Convert)
    account: Account = field(default_factory=Account)
    expose: Expose = field(default_factory=Expose)
