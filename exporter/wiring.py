"""The composition root: settings in, a wired daemon out. The only place that knows every part."""

import dataclasses
import json
import logging
import os
import platform
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
from exporter.account.recovery import recover
from exporter.account.writer import Writer
from exporter.attribute.attribution import Attribution
from exporter.attribute.identity import claim_of
from exporter.attribute.runbook import Runbook
from exporter.attribute.sources.cgroup_runs import CgroupRuns
from exporter.attribute.sources.kube.pods import Pods
from exporter.attribute.sources.kube.registry import open_kubernetes
from exporter.attribute.sources.machine import MachineTotals
from exporter.attribute.sources.processes import ProcessTable
from exporter.attribute.sources.replay import ReplayWitness
from exporter.attribute.sources.users import UserNames
from exporter.attribute.witness import LiveWitness
from exporter.clock import Clock, read_boot_id
from exporter.config import Config
from exporter.convert.registry import open_chain
from exporter.expose.board import Board
from exporter.expose.catalogue import catalogue
from exporter.expose.process import Process
from exporter.loop import Loop
from exporter.model.books import Restored
from exporter.model.commands import Request
from exporter.model.runs import Mark, RunKey
from exporter.model.workload import CollectorState
from exporter.notify import Notifier
from exporter.pipeline import Pipeline, Witness
from exporter.sample.meters import Meters
from exporter.sample.registry import Opened, open_samplers, recorded_host
from exporter.units import NANOSECONDS_PER_SECOND
from exporter.worker import Worker

if TYPE_CHECKING:
    from exporter.attribute.sources.kube.kubelet import Kubelet
    from exporter.attribute.sources.kube.pod_watch import PodWatch

log = logging.getLogger(__name__)

SPARE_FILES = 256
"""File handles kept free for the ledger and the hardware; sockets come on top."""
USERS_SECONDS = 3600.0
POWER_WINDOW = 0.5
"""Part of the interval that a shown power covers at least; ticks at a run's start are shorter."""

Workers: TypeAlias = "list[Worker | Kubelet | PodWatch]"


class Wiring:
    """The parts of a daemon, connected and not yet running; what they hold is put on `held`."""

    def __init__(
        self,
        config: Config,
        environment: Mapping[str, str],
        clock: Clock,
        inbox: "queue.SimpleQueue[Request]",
        held: ExitStack,
        web_states: Callable[[], tuple[CollectorState, ...]],
        settings_file: str = "",
    ) -> None:
        self._config = config
        self._environment = environment
        self._clock = clock
        _raise_file_limit()
        replay = config.sample.replay
        node = config.expose.node or (recorded_host(replay) if replay else platform.node())
        account = config.account
        self.board = Board(catalogue(config.attribute.exported_labels), Process().read)
        self.ledger = Ledger(account.state_directory, clock.wall())
        held.callback(self.ledger.close)
        journal = Journal(os.path.join(account.state_directory, "journal"))
        held.callback(journal.close)
        boot_id = read_boot_id(config.sample.procfs, clock)
        recovered = recover(self.ledger, journal, boot_id, clock.wall())
        restored = recovered.restored
        samplers = self._samplers(boot_id)
        for sampler in samplers.samplers:
            held.callback(sampler.release)
        chain = open_chain(
            **dataclasses.asdict(config.convert),
            clock=clock,
            memory=restored.intensity,
            settings_file=settings_file,
        )
        notes = (*restored.notes, *samplers.notes, *chain.notes)
        for note in notes:
            log.warning(note)
        runbook = Runbook(restored.runs, config.attribute.max_runs)
        self.writer = Writer(
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
            Worker("intensity", refresh, seconds) for refresh, seconds in chain.refresh
        ]
        self.stop_asking = chain.stop
        self._users = UserNames(lambda: clock.boottime_ns() / NANOSECONDS_PER_SECOND)
        users = Worker("users", self._users.look_up, USERS_SECONDS)
        self._users.wake = users.poke
        self.workers.append(users)
        interval = config.sample.interval_seconds
        witness = self._witness(restored, runbook)
        self.pipeline = Pipeline(
            node=node,
            clock=clock,
            samplers=samplers.samplers,
            missing=samplers.states,
            notes=notes,
            meters=Meters(restored.positions),
            witness=witness,
            runbook=runbook,
            attribution=Attribution(restored.floors),
            chain=chain.chain,
            grid=chain.grid,
            other_states=lambda: (*chain.states(), *web_states()),
            intensity_memory=chain.memory,
            books=Books(
                restored,
                round(interval * POWER_WINDOW * NANOSECONDS_PER_SECOND),
                config.attribute.exported_labels,
            ),
            journal=journal,
            writer=self.writer,
            publish=self.board.publish,
            first_seq=restored.seq,
            interval_seconds=interval,
            retain_ended_seconds=config.attribute.retain_ended_seconds,
            commit_seconds=account.commit_seconds,
        )
        self.notifier = Notifier(environment, clock)
        self.loop = Loop(
            self.pipeline,
            witness,
            clock,
            inbox,
            interval,
            samplers.let_go,
            config.expose.exit_when_idle_seconds,
            self.notifier.beat,
            self.notifier.beat_ns,
        )

    def _samplers(self, boot_id: str) -> Opened:
        sample = self._config.sample
        return open_samplers(
            sysfs=sample.sysfs,
            procfs=sample.procfs,
            clock=self._clock,
            boot_id=boot_id,
            enabled=sample.collectors,
            replay=sample.replay,
            cpu_idle_watts_per_thread=sample.cpu_idle_watts_per_thread,
            cpu_full_watts_per_thread=sample.cpu_full_watts_per_thread,
            dram_watts_per_gb=sample.dram_watts_per_gb,
        )

    def _witness(self, restored: Restored, runbook: Runbook) -> Witness:
        sample, attribute = self._config.sample, self._config.attribute
        if sample.replay:
            with open(sample.replay, encoding="utf-8") as file:
                return ReplayWitness(json.load(file), runbook, self._clock, self._mark)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        own = "\0".join(f"{name}={value}" for name, value in self._environment.items())
        return LiveWitness(
            runbook=runbook,
            processes=ProcessTable(
                sample.procfs,
                max(0, soft - SPARE_FILES - self._config.expose.max_connections),
                read_environments=attribute.read_environments,
            ),
            machine=MachineTotals(sample.procfs, restored.machine_cpu),
            procfs=sample.procfs,
            clock=self._clock,
            user_name=self._users.name,
            claim=claim_of(own.encode("utf-8", "surrogateescape"), with_jobs=False),
            run_cpu=restored.run_cpu,
            left_wall=restored.wall,
            jobs_directory=attribute.jobs_directory,
            read_environments=attribute.read_environments,
            pods=self._pods(runbook),
        )

    def _mark(self, key: RunKey, done: float) -> Mark:
        return self.pipeline.mark(key, done)

    def _pods(self, runbook: Runbook) -> Callable[[CgroupRuns], Pods] | None:
        """What makes the runs of pods; None outside of Kubernetes."""
        attribute = self._config.attribute
        sources = open_kubernetes(
            kubelet_socket=attribute.kubelet_socket,
            node_name=attribute.node_name,
            service_account=attribute.service_account,
            environment=self._environment,
            exported_labels=attribute.exported_labels,
            clock=self._clock,
        )
        if sources is None:
            return None
        self.workers += [each for each in (sources.kubelet, sources.watch) if each is not None]
        return partial(
            Pods,
            self._config.sample.procfs,
            sources,
            runbook,
            self._clock,
            included=attribute.namespaces,
            excluded=attribute.excluded_namespaces,
            gpu_resources=attribute.gpu_resources,
        )


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
