"""The composition root: settings in, a wired daemon out. The only place that knows every part."""

import dataclasses
import json
import logging
import os
import platform
import queue
import resource
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

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
from exporter.attribute.sources.kubernetes import open_kubernetes
from exporter.attribute.sources.machine import MachineTotals
from exporter.attribute.sources.pods import Pods
from exporter.attribute.sources.processes import ProcessTable
from exporter.attribute.sources.replay import ReplayWitness
from exporter.attribute.sources.users import UserNames
from exporter.attribute.witness import LiveWitness
from exporter.clock import Clock, SystemClock, read_boot_id
from exporter.config import Config
from exporter.convert.registry import open_chain
from exporter.errors import EmissionsError, LedgerError, Outdated
from exporter.expose.board import Board
from exporter.expose.catalogue import catalogue
from exporter.expose.process import Process
from exporter.expose.server import Limits
from exporter.expose.web import Web
from exporter.loop import Loop
from exporter.model.books import Restored
from exporter.model.commands import LetGo, Request, Stop
from exporter.pipeline import Pipeline, Witness
from exporter.sample.meters import Meters
from exporter.sample.registry import Opened, open_samplers
from exporter.units import NANOSECONDS_PER_SECOND
from exporter.worker import Worker

if TYPE_CHECKING:
    from exporter.attribute.sources.kubelet import Kubelet
    from exporter.attribute.sources.pod_watch import PodWatch

log = logging.getLogger(__name__)

NOWHERE = "none"
"""As a listen address."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
SPARE_FILES = 256
"""File handles kept free for the ledger and the hardware; sockets come on top."""
USERS_SECONDS = 3600.0
STOP_SECONDS = 2.0
POWER_WINDOW = 0.5
"""Part of the interval that a shown power covers at least; ticks at a run's start are shorter."""


class App:
    """One daemon, built of its settings and not yet running."""

    def __init__(
        self, config: Config, environment: Mapping[str, str], clock: Clock | None = None
    ) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.inbox: queue.SimpleQueue[Request] = queue.SimpleQueue()
        families = catalogue(config.attribute.exported_labels)
        self.board = Board(families, Process().read)
        self.node = config.expose.node or platform.node()
        self.reload = False
        """Whether it was SIGHUP that ended `serve`: the settings are to be read again."""
        self._environment = environment
        self._open = ExitStack()
        try:
            self._build()
        except BaseException:
            self._open.close()
            raise

    def serve(self, ready: Callable[[Sequence[str], Config], None]) -> bool:
        """Run until SIGTERM, SIGINT or SIGHUP, then make everything durable.

        False if a thread hangs. `ready` is called with the URLs as soon as they answer.
        """
        for number in SIGNALS:
            signal.signal(number, self._obey)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        try:
            web = self._web()
            addresses = web.bind()
            self.begin()
            thread = threading.Thread(target=self._serve_web, args=(web,), name="web", daemon=True)
            thread.start()
            for worker in self._workers:
                worker.start()
            ready([_url(host, port) for host, port in addresses], self.config)
            # What was recovered is committed once the journal has it: a kill in between would leave
            # an old journal beside a new ledger.
            self.loop.run(self.writer.start)
            served = thread.is_alive()
            if self.reload:  # what comes until the next one serves, waits for it
                signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            web.stop()
            thread.join(STOP_SECONDS)
        except Outdated:
            self.pipeline.commit()
            raise
        except EmissionsError:
            raise
        except Exception:
            log.critical("a defect stops the daemon; the journal has all that was counted")
            raise
        finally:
            self.close()
        if not served:
            raise EmissionsError("the HTTP server ended by itself; the log says why")
        log.info("stopped")
        return threading.active_count() == 1

    def begin(self) -> None:
        """From here on a stop is a crash, unless a last commit says otherwise."""
        try:
            self._ledger.start()
        except LedgerError as error:
            log.error("%s", error)  # noqa: TRY400  the text says it all

    def _serve_web(self, web: Web) -> None:
        """Serve until asked to stop; a daemon that nobody can ask is of no use."""
        try:
            web.run()
        except Exception:
            log.exception("the HTTP server failed")
        self.inbox.put(Request(Stop(), lambda _: None))

    def _obey(self, number: int, _frame: object) -> None:
        command = LetGo() if number == signal.SIGUSR1 else Stop()
        self.reload = self.reload or number == signal.SIGHUP
        self.inbox.put(Request(command, lambda _: None))

    def once(self, pause: Callable[[], None]) -> bytes:
        """Two ticks with `pause()` between them, and the page."""
        try:
            self.pipeline.tick()
            pause()
            self.pipeline.tick()
            current = self.board.current
            assert current is not None
            return current.page.text()
        finally:
            self.close()

    def close(self) -> None:
        """Let go of everything.

        A thread that hangs on a disk still uses the ledger, so that is then left as it is.
        """
        self._stop_asking()
        for worker in self._workers:
            worker.stop(STOP_SECONDS)
        has_ended = self.writer.stop(STOP_SECONDS)
        if self.writer.is_behind and self.writer.why:
            log.error("the ledger could not take everything: %s", self.writer.why)
        if has_ended:
            self._open.close()

    def _build(self) -> None:
        self._raise_file_limit()
        account = self.config.account
        ledger = self._ledger = Ledger(account.state_directory, self.clock.wall())
        self._open.callback(ledger.close)
        journal = Journal(os.path.join(account.state_directory, "journal"))
        self._open.callback(journal.close)
        boot_id = read_boot_id(self.config.sample.procfs, self.clock)
        recovered = recover(ledger, journal, boot_id, self.clock.wall())
        restored = recovered.restored
        samplers = self._samplers(boot_id)
        for sampler in samplers.samplers:
            self._open.callback(sampler.release)
        chain = open_chain(
            **dataclasses.asdict(self.config.convert), clock=self.clock, memory=restored.intensity
        )
        notes = (*restored.notes, *samplers.notes, *chain.notes)
        for note in notes:
            log.warning(note)
        runbook = Runbook(restored.runs, self.config.attribute.max_runs)
        self.writer = Writer(
            ledger,
            self.clock,
            keep_minutes_days=account.keep_minutes_days,
            keep_hours_days=account.keep_hours_days,
            check=not recovered.clean,
        )
        if recovered.batch is not None:
            self.writer.submit(recovered.batch)
        self.archive = LedgerArchive(ledger.path, self.node)
        self._workers: list[Worker | Kubelet | PodWatch] = [
            Worker("intensity", refresh, seconds) for refresh, seconds in chain.refresh
        ]
        self._stop_asking = chain.stop
        self._users = UserNames()
        users = Worker("users", self._users.look_up, USERS_SECONDS)
        self._users.wake = users.poke
        self._workers.append(users)
        interval = self.config.sample.interval_seconds
        witness = self._witness(restored, runbook)
        self.pipeline = Pipeline(
            node=self.node,
            clock=self.clock,
            samplers=samplers.samplers,
            missing=samplers.states,
            notes=notes,
            meters=Meters(restored.positions),
            witness=witness,
            runbook=runbook,
            attribution=Attribution(restored.floors),
            chain=chain.chain,
            grid=chain.grid,
            intensity_states=chain.states,
            intensity_memory=chain.memory,
            books=Books(
                restored,
                round(interval * POWER_WINDOW * NANOSECONDS_PER_SECOND),
                self.config.attribute.exported_labels,
            ),
            journal=journal,
            writer=self.writer,
            publish=self.board.publish,
            first_seq=restored.seq,
            interval_seconds=interval,
            retain_ended_seconds=self.config.attribute.retain_ended_seconds,
            commit_seconds=account.commit_seconds,
        )
        self.loop = Loop(
            self.pipeline,
            witness,
            self.clock,
            self.inbox,
            interval,
            samplers.let_go,
            self.config.expose.exit_when_idle_seconds,
        )

    def _samplers(self, boot_id: str) -> Opened:
        sample = self.config.sample
        return open_samplers(
            sysfs=sample.sysfs,
            procfs=sample.procfs,
            clock=self.clock,
            boot_id=boot_id,
            enabled=sample.collectors,
            replay=sample.replay,
            cpu_idle_watts_per_thread=sample.cpu_idle_watts_per_thread,
            cpu_full_watts_per_thread=sample.cpu_full_watts_per_thread,
            dram_watts_per_gb=sample.dram_watts_per_gb,
        )

    def _witness(self, restored: Restored, runbook: Runbook) -> Witness:
        sample, attribute = self.config.sample, self.config.attribute
        if sample.replay:
            with open(sample.replay, encoding="utf-8") as file:
                return ReplayWitness(json.load(file), runbook, self.clock)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        own = "\0".join(f"{name}={value}" for name, value in self._environment.items())
        return LiveWitness(
            runbook=runbook,
            processes=ProcessTable(
                sample.procfs,
                max(0, soft - SPARE_FILES - self.config.expose.max_connections),
                read_environments=attribute.read_environments,
            ),
            machine=MachineTotals(sample.procfs, restored.machine_cpu),
            procfs=sample.procfs,
            clock=self.clock,
            user_name=self._users.name,
            claim=claim_of(own.encode("utf-8", "surrogateescape"), with_jobs=False),
            run_cpu=restored.run_cpu,
            left_wall=restored.wall,
            jobs_directory=attribute.jobs_directory,
            pods=self._pods(runbook),
        )

    def _pods(self, runbook: Runbook) -> Callable[[CgroupRuns], Pods] | None:
        """What makes the runs of pods; None outside of Kubernetes."""
        attribute = self.config.attribute
        sources = open_kubernetes(
            kubelet_socket=attribute.kubelet_socket,
            node_name=attribute.node_name,
            service_account=attribute.service_account,
            environment=self._environment,
            exported_labels=attribute.exported_labels,
            clock=self.clock,
        )
        if sources is None:
            return None
        self._workers += [each for each in (sources.kubelet, sources.watch) if each is not None]
        return partial(
            Pods,
            self.config.sample.procfs,
            sources,
            runbook,
            self.clock,
            included=attribute.namespaces,
            excluded=attribute.excluded_namespaces,
        )

    def _web(self) -> Web:
        expose = self.config.expose
        return Web(
            board=self.board,
            archive=self.archive,
            submit=self.inbox.put,
            clock=self.clock,
            listen_address="" if expose.listen_address == NOWHERE else expose.listen_address,
            socket_path=expose.socket,
            limits=Limits(connections=expose.max_connections),
        )

    def _raise_file_limit(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _url(host: str, port: int) -> str:
    shown = "localhost" if host in ("0.0.0.0", "::") else host  # noqa: S104  shown only
    return f"http://[{shown}]:{port}/" if ":" in shown else f"http://{shown}:{port}/"
