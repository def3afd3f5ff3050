"""Constructs and connects the parts of the five stages; daemon.py adds the web service."""

import dataclasses
import json
import logging
import os
import queue
import resource
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from exporter.account.archive import LedgerArchive
from exporter.account.books import Books
from exporter.account.journal import Journal
from exporter.account.ledger import Ledger
from exporter.account.ledger_writer import LedgerWriter
from exporter.account.recovery import recover
from exporter.attribute.attribution import Attribution
from exporter.attribute.identity import claim_from_environment
from exporter.attribute.run_registry import RunRegistry
from exporter.attribute.sources.cgroups import RunCgroups
from exporter.attribute.sources.kube import is_kubernetes_node
from exporter.attribute.sources.process_table import ProcessTable
from exporter.attribute.sources.usernames import UsernameCache
from exporter.attribute.workload_collector import HostTotals, LiveWorkloadCollector
from exporter.clock import Clock, read_boot_id
from exporter.config import Config
from exporter.convert.provider import open_intensity_provider
from exporter.expose.exposition import SnapshotPublisher
from exporter.expose.metrics import metric_families
from exporter.expose.process_collector import ProcessCollector
from exporter.loop import Loop
from exporter.model.commands import CommandRequest
from exporter.model.ledger import RestoredState
from exporter.model.readings import PART_KINDS
from exporter.model.runs import ProgressMark, RunKey
from exporter.model.workload import CollectorState
from exporter.pipeline import Pipeline, WorkloadCollector
from exporter.sample.energy_counters import EnergyCounters
from exporter.sample.node_meter import NodeMeter, NodeSettings
from exporter.sample.registry import OpenedCollectors, open_collectors, recorded_host_name
from exporter.sample.sources.node_query import NodeQuery
from exporter.systemd import SystemdNotifier
from exporter.units import NANOSECONDS_PER_SECOND
from exporter.worker import Worker

if TYPE_CHECKING:
    from exporter.attribute.sources.kube.pod_resources import KubeletClient
    from exporter.attribute.sources.kube.pod_runs import PodRuns
    from exporter.attribute.sources.kube.pod_watch import PodWatch

log = logging.getLogger(__name__)

RESERVED_FILES = 256
"""File descriptors reserved for the ledger and the hardware, in addition to sockets."""
USERNAME_REFRESH_SECONDS = 3600.0
POWER_WINDOW_RATIO = 0.5
"""Minimum window of a published power, as a part of the sampling interval.

Ticks at the start of a run are shorter than the interval.
"""

Workers: TypeAlias = "list[Worker | KubeletClient | PodWatch]"


class Wiring:
    """The connected components of a daemon, not yet running.

    Callbacks that release their resources are added to `held`.
    """

    def __init__(
        self,
        config: Config,
        environment: Mapping[str, str],
        clock: Clock,
        inbox: "queue.SimpleQueue[CommandRequest]",
        held: ExitStack,
        web_states: Callable[[], tuple[CollectorState, ...]],
        settings_file: str = "",
    ) -> None:
        self._config = config
        self._environment = environment
        self._clock = clock
        _raise_file_limit()
        replay = config.sample.replay
        node = config.expose.node or (recorded_host_name(replay) if replay else os.uname().nodename)
        account = config.account
        self.publisher = SnapshotPublisher(
            metric_families(config.attribute.exported_labels), ProcessCollector().read
        )
        self.ledger = Ledger(account.state_directory, clock.wall())
        held.callback(self.ledger.close)
        journal = Journal(os.path.join(account.state_directory, "journal"))
        held.callback(journal.close)
        boot_id = read_boot_id(config.sample.procfs, clock)
        recovered = recover(self.ledger, journal, boot_id, clock.wall())
        restored = recovered.restored
        opened = self._open_collectors(boot_id, node)
        for collector in opened.device_collectors:
            held.callback(collector.release)
        if opened.node_collector is not None:
            held.callback(opened.node_collector.release)
        intensity = open_intensity_provider(
            **dataclasses.asdict(config.convert),
            clock=clock,
            memory=restored.intensity,
            settings_file=settings_file,
        )
        notes = (*restored.notes, *opened.notes, *intensity.notes)
        for note in notes:
            log.warning("startup note", extra={"note": note})
        run_registry = RunRegistry(restored.runs, config.attribute.max_runs)
        self.writer = LedgerWriter(
            self.ledger,
            clock,
            keep_minutes_days=account.keep_minutes_days,
            keep_hours_days=account.keep_hours_days,
            check=not recovered.clean,
        )
        if recovered.batch is not None:
            self.writer.submit(recovered.batch)
        self.archive = LedgerArchive(self.ledger.path, node)
        self.workers: Workers = [
            Worker("intensity", refresh, seconds) for refresh, seconds in intensity.refresh
        ]
        self.cancel_fetches = intensity.stop
        self._users = UsernameCache(lambda: clock.boottime_ns() / NANOSECONDS_PER_SECOND)
        users = Worker("users", self._users.look_up, USERNAME_REFRESH_SECONDS)
        self._users.wake = users.wake  # each needs the other, so one is set later
        self.workers.append(users)
        interval = config.sample.interval_seconds
        workload_collector = self._workload_collector(restored, run_registry)
        self.pipeline = Pipeline(
            node=node,
            clock=clock,
            device_collectors=opened.device_collectors,
            node_meter=self._node_meter(opened, restored, boot_id),
            unopened_states=opened.states,
            notes=notes,
            energy_counters=EnergyCounters(
                state for state in restored.counter_states if state.device.kind in PART_KINDS
            ),
            workload_collector=workload_collector,
            run_registry=run_registry,
            attribution=Attribution(restored.floors),
            chain=intensity.chain,
            intensity_state=intensity.state_at,
            other_states=lambda: (*intensity.states(), *web_states()),
            intensity_memory=intensity.memory,
            books=Books(
                restored,
                round(interval * POWER_WINDOW_RATIO * NANOSECONDS_PER_SECOND),
                config.attribute.exported_labels,
            ),
            journal=journal,
            writer=self.writer,
            publish=self.publisher.publish,
            first_seq=restored.seq,
            interval_seconds=interval,
            retain_ended_seconds=config.attribute.retain_ended_seconds,
            commit_seconds=account.commit_seconds,
        )
        self.notifier = SystemdNotifier(environment, clock)
        self.loop = Loop(
            self.pipeline,
            workload_collector,
            clock,
            inbox,
            interval,
            opened.release_driver,
            config.expose.exit_when_idle_seconds,
            self.notifier.heartbeat,
            self.notifier.heartbeat_interval_ns,
        )

    def _open_collectors(self, boot_id: str, node: str) -> OpenedCollectors:
        sample = self._config.sample
        return open_collectors(
            sysfs=sample.sysfs,
            procfs=sample.procfs,
            clock=self._clock,
            boot_id=boot_id,
            enabled=sample.collectors,
            replay=sample.replay,
            cpu_idle_watts_per_thread=sample.cpu_idle_watts_per_thread,
            cpu_full_watts_per_thread=sample.cpu_full_watts_per_thread,
            dram_watts_per_gb=sample.dram_watts_per_gb,
            node=node,
            node_query=NodeQuery(
                sample.node_query_url,
                sample.node_query,
                sample.node_query_token_file,
                sample.node_query_seconds,
            ),
        )

    def _node_meter(
        self, opened: OpenedCollectors, restored: RestoredState, boot_id: str
    ) -> NodeMeter | None:
        if opened.node_collector is None:
            return None
        sample = self._config.sample
        lag = sample.node_lag_seconds
        lag_seconds = opened.node_lag_seconds if lag is None else lag
        settings = NodeSettings(lag_seconds, sample.node_includes_gpus)
        return NodeMeter(opened.node_collector, settings, restored.counter_states, boot_id)

    def _workload_collector(
        self, restored: RestoredState, run_registry: RunRegistry
    ) -> WorkloadCollector:
        sample, attribute = self._config.sample, self._config.attribute
        if sample.replay:
            from exporter.attribute.sources.replay import ReplayWorkloadCollector

            with open(sample.replay, encoding="utf-8") as file:
                return ReplayWorkloadCollector(
                    json.load(file), run_registry, self._clock, self._mark
                )
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        own = "\0".join(f"{name}={value}" for name, value in self._environment.items())
        return LiveWorkloadCollector(
            run_registry=run_registry,
            processes=ProcessTable(
                sample.procfs,
                max(0, soft - RESERVED_FILES - self._config.expose.max_connections),
                read_environments=attribute.read_environments,
            ),
            machine=HostTotals(sample.procfs, restored.machine_cpu),
            procfs=sample.procfs,
            clock=self._clock,
            user_name=self._users.name,
            claim=claim_from_environment(own.encode("utf-8", "surrogateescape"), with_jobs=False),
            run_cpu=restored.run_cpu,
            left_wall=restored.wall,
            jobs_directory=attribute.jobs_directory,
            read_environments=attribute.read_environments,
            pods=self._pods(run_registry),
        )

    def _mark(self, key: RunKey, done: float) -> ProgressMark:
        """Return a mark of a run's progress, from the pipeline that is built after the caller."""
        return self.pipeline.progress_mark(key, done)

    def _pods(self, run_registry: RunRegistry) -> "Callable[[RunCgroups], PodRuns] | None":
        """Return the factory of the runs of pods; None outside of Kubernetes.

        The workload collector calls it with its cgroups.
        """
        attribute = self._config.attribute
        if not is_kubernetes_node(attribute.kubelet_socket, self._environment):
            return None
        # Imported late: 3 ms and 1 MB, which other nodes should not pay.
        from exporter.attribute.sources.kube.pod_runs import PodRuns
        from exporter.attribute.sources.kube.sources import open_kubernetes

        sources = open_kubernetes(
            kubelet_socket=attribute.kubelet_socket,
            node_name=attribute.node_name,
            service_account=attribute.service_account,
            environment=self._environment,
            exported_labels=attribute.exported_labels,
            clock=self._clock,
        )
        self.workers += [each for each in (sources.kubelet, sources.watch) if each is not None]
        return partial(
            PodRuns,
            self._config.sample.procfs,
            sources,
            run_registry,
            self._clock,
            included=attribute.namespaces,
            excluded=attribute.excluded_namespaces,
            gpu_resources=attribute.gpu_resources,
        )


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
