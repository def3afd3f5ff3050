"""Settings: their types, units, defaults and texts; exporter.settings loads them.

Order of precedence: flag, then `EMISSIONS_EXPORTER_<SECTION>_<KEY>`, then file, then default.
The top-level keys of the file are the five verbs of the pipeline; a key that is not known is an
error. `docs/configuration.md` is made from this file.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from exporter.model.intensity import kg_per_kwh_error
from exporter.setting import setting

DEFAULT_PORT = 10680
COLLECTORS = ("nvml", "rapl", "cpu_estimate", "dram_estimate")
"""Names that `sample.collectors` knows."""
SYSTEM_STATE_DIRECTORY = "/var/lib/emissions-exporter"
NO_LISTENER = "none"
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
class SampleConfig:
    """Reading the hardware."""

    interval_seconds: float = setting(
        1.0, "seconds", "Time between two looks.", flag="sample.interval", least=0.1, most=60
    )
    collectors: Mapping[str, bool] = setting(
        {},
        "",
        "Collectors to switch off or on by name, for example `{rapl: false}`.",
        flag="collector",
    )
    sysfs: str = setting(
        "/sys", "path", "Where sysfs is mounted.", flag="path.sysfs", place="directory"
    )
    procfs: str = setting(
        "/proc", "path", "Where procfs is mounted.", flag="path.procfs", place="directory"
    )
    cpu_idle_watts_per_thread: float | None = setting(
        None,
        "watts",
        "Idle power of one hardware thread, where no counter can be read. "
        "Empty: from the processor's model, or the cited pair for guests.",
        least=0,
    )
    cpu_full_watts_per_thread: float | None = setting(
        None, "watts", "Power of one hardware thread at full load; see above.", least=0
    )
    dram_watts_per_gb: float | None = setting(
        None,
        "watts per GB",
        "Power of memory where no counter can be read. Empty: the cited value.",
        least=0,
    )
    replay: str = setting(
        "",
        "path",
        "Play this recorded or made-up host instead of reading the machine.",
        place="file",
    )


@dataclass(frozen=True)
class AttributeConfig:
    """Finding out whose energy it was."""

    max_runs: int = setting(
        200, "runs", "Runs with series of their own; more are counted as `other`.", least=1
    )
    retain_ended_seconds: float = setting(
        900, "seconds", "How long the series of an ended run stay on the page.", least=0
    )
    read_environments: bool = setting(
        True, "", "Look for run and job ids in the environments of processes, where readable."
    )
    jobs_directory: str = setting(
        "/run/emissions-exporter/jobs",
        "path",
        "Where the scheduler's prolog writes down whose a job is and which GPUs it was given.",
        place="directory",
    )
    node_name: str = setting(
        "",
        "",
        "Name of this node in Kubernetes; with it, pods are looked up at the API server. In a "
        "manifest: `fieldRef: spec.nodeName`.",
    )
    kubelet_socket: str = setting(
        "/var/lib/kubelet/pod-resources/kubelet.sock",
        "path",
        "Where the kubelet tells which container has which device. Without its directory it is "
        "not asked.",
    )
    service_account: str = setting(
        "/var/run/secrets/kubernetes.io/serviceaccount",
        "path",
        "Where the token for the API server is, and whom to trust as that. Empty: it is not asked, "
        "and pods go by their uid.",
    )
    namespaces: tuple[str, ...] = setting(
        (), "", "Namespaces whose pods are runs. Empty: all but those below."
    )
    excluded_namespaces: tuple[str, ...] = setting(
        (), "", "Namespaces whose pods are no runs; what they use is `other`."
    )
    gpu_resources: tuple[str, ...] = setting(
        (),
        "",
        "Further resources of Kubernetes whose devices are GPUs, beside `nvidia.com/gpu`, "
        "`nvidia.com/mig-*` and `nvidia.com/*.shared`; `*` is any text. For renamed resources and "
        "other device plugins, for example `k8s.amazonaws.com/vgpu`.",
    )
    exported_labels: tuple[str, ...] = setting(
        (), "", "Labels of runs that become `label_*` of `emissions_run_info`."
    )


@dataclass(frozen=True)
class ConvertConfig:
    """From energy to grams."""

    zone: str = setting(
        "",
        "",
        "Where the machine is: a country (`DE`), a region (`US-CA`), a zone of Electricity Maps "
        "(`US-CAL-CISO`) or a cloud region (`aws:eu-west-1`). Empty: the world average is used, "
        "and said so.",
        flag="convert.zone",
    )
    cloud_metadata: bool = setting(
        False,
        "",
        "Where no zone is set, ask the metadata service of AWS, Google Cloud or Azure for the "
        "region, once at the start.",
    )
    sources: tuple[Any, ...] = setting(
        (),
        "",
        "Sources of intensity in order of preference, each alone or with its options; see below. "
        "Empty: `static` if `grams_per_kwh` is set, else `file` if that is set, then `table`.",
    )
    fallback: Literal["same", "any"] = setting(
        "same",
        "",
        "Which of them may stand in for the first: those that count the same (signal, basis, "
        "accounting), or any.",
    )
    second: tuple[Any, ...] = setting(
        (),
        "",
        "Sources of a second intensity, marginal or market-based, shown beside the first as series "
        "of its own. No grams are counted with it.",
    )
    grams_per_kwh: float | None = setting(
        None,
        "g/kWh",
        "A fixed intensity of your own, 0 or at least 1; goes before every table.",
        least=0,
        error=kg_per_kwh_error,
    )
    basis: Literal["lifecycle", "direct", "unstated"] = setting(
        "unstated", "", "What the numbers of `grams_per_kwh` and `file` count."
    )
    accounting: Literal["location", "market"] = setting(
        "location", "", "Whether they follow the grid or your contracts."
    )
    source: str = setting("", "", "Who says so; shown beside every gram that they made.")
    file: str = setting(
        "",
        "path",
        "Intensities over time, CSV or JSON: each row holds from its time until the next.",
        place="file",
    )
    file_max_age_seconds: float = setting(
        7200, "seconds", "How long the last row of the file holds.", least=0
    )
    pue: float = setting(
        1.0,
        "ratio",
        "Power usage effectiveness: energy of the building over energy of the machines.",
        least=1,
        most=5,
    )


@dataclass(frozen=True)
class AccountConfig:
    """Keeping the totals."""

    state_directory: str = setting(
        "",
        "path",
        "Where ledger and journal are kept. Empty: `/var/lib/emissions-exporter` for root, "
        "`$XDG_STATE_HOME/emissions-exporter` for anyone else.",
        flag="path.state",
        place="directory",
    )
    commit_seconds: float = setting(
        30, "seconds", "Time between two commits of the ledger.", least=1, most=3600
    )
    keep_minutes_days: float = setting(
        35, "days", "How long usage is kept by the minute; then by the hour.", least=1
    )
    keep_hours_days: float = setting(
        400, "days", "How long usage is kept by the hour; totals are kept for ever.", least=1
    )


@dataclass(frozen=True)
class ExposeConfig:
    """Showing the numbers."""

    listen_address: str = setting(
        f":{DEFAULT_PORT}",
        "host:port",
        "Where HTTP is served; `none`: nowhere, there is only the agent socket.",
        flag="web.listen-address",
    )
    telemetry_path: str = setting(
        "/metrics",
        "",
        "HTTP path of the metrics; `metrics_path` of the scrape has to be the same.",
        flag="web.telemetry-path",
    )
    web_config_file: str = setting(
        "",
        "path",
        "TLS, client certificates, passwords, headers and rates of HTTP, as in exporters of "
        "Prometheus; see web-config.md. Empty: none of them.",
        flag="web.config.file",
        place="file",
    )
    exit_when_idle_seconds: float | None = setting(
        None,
        "seconds",
        "Stop when no registered run has been running for so long, as a daemon does that a "
        "program started for itself. Empty: never.",
        flag="exit-when-idle",
        least=1,
    )
    socket: str = setting(
        "",
        "path",
        "The agent socket, where runs are registered. Empty: "
        "`/run/emissions-exporter/agent.sock` for root, under `$XDG_RUNTIME_DIR` for anyone else.",
        flag="socket.path",
        place="socket",
    )
    node: str = setting(
        "",
        "",
        "Name of this machine in records and on the page. Empty: its host name, or in a replay "
        "that of the recorded host.",
    )
    max_connections: int = setting(
        512, "connections", "Open at once; then the one that was silent longest is closed.", least=8
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "", "Least severity that is logged.", flag="log.level"
    )
    log_format: Literal["logfmt", "json"] = setting(
        "logfmt", "", "How log lines are written.", flag="log.format"
    )


@dataclass(frozen=True)
class Config:
    """All settings, one section per verb."""

    sample: SampleConfig = field(default_factory=SampleConfig)
    attribute: AttributeConfig = field(default_factory=AttributeConfig)
    convert: ConvertConfig = field(default_factory=ConvertConfig)
    account: AccountConfig = field(default_factory=AccountConfig)
    expose: ExposeConfig = field(default_factory=ExposeConfig)
