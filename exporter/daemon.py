"""The daemon process: start, serve until a signal arrives, commit and stop."""

import logging
import queue
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from exporter.clock import Clock, SystemClock
from exporter.config import NO_LISTENER, Config
from exporter.config_loader import check_paths
from exporter.errors import EmissionsError, LedgerError, RestartRequired
from exporter.expose.http.listeners import parse_address
from exporter.expose.http.routes import check_telemetry_path
from exporter.expose.http.server import ServerLimits
from exporter.expose.http.web_service import WebService
from exporter.expose.metrics import metric_families
from exporter.expose.web_config.store import WebConfigStore
from exporter.model.commands import CommandRequest, ReleaseDriver, StopDaemon
from exporter.model.workload import SETTINGS, CollectorState
from exporter.report.forms.registry import FORMS, add_inner
from exporter.wiring import Wiring

log = logging.getLogger(__name__)

HANDLED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
STOP_SECONDS = 2.0


def check_settings(config: Config) -> None:
    """Check what the daemon would find wrong with the settings only after it has begun to start.

    Raises ConfigError.
    """
    check_paths(config)
    if config.expose.listen_address != NO_LISTENER:
        parse_address(config.expose.listen_address)
    check_telemetry_path(config.expose.telemetry_path)
    metric_families(config.attribute.exported_labels)


class Daemon:
    """A daemon, built from its settings; `serve` or `run_once` runs it."""

    def __init__(
        self,
        config: Config,
        environment: Mapping[str, str],
        clock: Clock | None = None,
        web_config: WebConfigStore | None = None,
        settings_file: str = "",
        reload_error: str = "",
    ) -> None:
        """Open all components. Raises ConfigError.

        `web_config` is the web configuration before a reload; it stays in force if the new one is
        invalid. `reload_error` is the reason why the settings could not be reloaded, if any.
        """
        check_settings(config)
        self.config = config
        self.clock = clock or SystemClock()
        self.inbox: queue.SimpleQueue[CommandRequest] = queue.SimpleQueue()
        self.reload = False
        """Whether SIGHUP ended `serve`, so that the settings are to be reloaded."""
        self.web_config = self._renewed(web_config)
        self._reload_states = (
            (CollectorState(SETTINGS, ok=False, seconds=0.0, why=reload_error),)
            if reload_error
            else ()
        )
        self._held = ExitStack()
        try:
            parts = Wiring(
                config,
                environment,
                self.clock,
                self.inbox,
                self._held,
                lambda: (*self.web_config.states, *self._reload_states),
                settings_file,
            )
        except BaseException:
            self._held.close()
            raise
        self.publisher, self.pipeline, self.loop = parts.publisher, parts.pipeline, parts.loop
        self.writer, self.archive = parts.writer, parts.archive
        self._ledger, self._workers = parts.ledger, parts.workers
        self._cancel_fetches, self._notifier = parts.cancel_fetches, parts.notifier

    def serve(self, ready: Callable[[Sequence[str], Config], None]) -> bool:
        """Run until SIGTERM, SIGINT or SIGHUP, then commit to the ledger.

        `ready` is called with the URLs and the settings as soon as the URLs answer. Returns False
        if a thread hangs.
        """
        for number in HANDLED_SIGNALS:
            signal.signal(number, self._handle_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)
        try:
            web = self._web()
            addresses = web.bind()
            self.begin()
            thread = threading.Thread(target=self._serve_web, args=(web,), name="web", daemon=True)
            thread.start()
            for worker in self._workers:
                worker.start()
            scheme = "https" if self.web_config.active.tls_endpoint else "http"
            urls = [_url(scheme, host, port) for host, port in addresses]
            ready(urls, self.config)
            self.loop.run(partial(self._begun, urls))
            served = thread.is_alive()
            if self.reload:  # signals stay pending until the next daemon handles them
                signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
                for number in HANDLED_SIGNALS:
                    signal.signal(number, signal.SIG_DFL)  # a handler would keep this daemon
            web.stop()
            thread.join(STOP_SECONDS)
        except RestartRequired:
            self.pipeline.commit()
            raise
        finally:
            self.close()
        if not served:
            raise EmissionsError("the HTTP server stopped unexpectedly; see the log for the reason")
        log.info("reloading settings" if self.reload else "stopped")
        return threading.active_count() == 1

    def begin(self) -> None:
        """Mark the ledger as in use: without a final commit, the next start is a recovery."""
        try:
            self._ledger.start()
        except LedgerError as error:
            log.error("ledger not marked as in use", extra={"error": str(error)})  # noqa: TRY400

    def _begun(self, urls: Sequence[str]) -> None:
        """Start the ledger writer and report readiness, after the first tick."""
        # What was recovered is committed once the journal has it: a kill in between would leave
        # an old journal beside a new ledger.
        self.writer.start()
        self._notifier.ready(f"serving {', '.join(urls) or 'the agent socket'}")

    def _serve_web(self, web: WebService) -> None:
        """Run the HTTP server; when it ends for any reason, stop the daemon."""
        try:
            web.run()
        except Exception:
            log.exception("HTTP server failed")
        self.inbox.put(CommandRequest(StopDaemon(), lambda _: None))

    def _handle_signal(self, number: int, _frame: object) -> None:
        command = ReleaseDriver() if number == signal.SIGUSR1 else StopDaemon()
        self.reload = self.reload or number == signal.SIGHUP
        if number == signal.SIGHUP:
            self._notifier.reloading()
        elif number != signal.SIGUSR1:
            self._notifier.stopping()
        self.inbox.put(CommandRequest(command, lambda _: None))

    def run_once(self, pause: Callable[[], None]) -> bytes:
        """Run two ticks with `pause()` between them; return the metrics page."""
        try:
            self.pipeline.tick()
            pause()
            self.pipeline.tick()
            current = self.publisher.current
            assert current is not None
            return current.metrics_page.text()
        finally:
            self.close()

    def close(self) -> None:
        """Stop all threads and release all resources.

        If the ledger writer hangs on a disk, its thread still uses the ledger, so the ledger stays
        open.
        """
        self._cancel_fetches()
        for worker in self._workers:
            worker.stop(STOP_SECONDS)
        has_ended = self.writer.stop(STOP_SECONDS)
        if self.writer.is_behind and self.writer.why:
            log.error("totals not written to the ledger", extra={"error": self.writer.why})
        if has_ended:
            self._held.close()

    def _renewed(self, web_config: WebConfigStore | None) -> WebConfigStore:
        path = self.config.expose.web_config_file
        if web_config is None or web_config.path != path:
            web_config = WebConfigStore(path, self.clock)
            for note in web_config.notes:
                log.warning("web config note", extra={"note": note})
            return web_config
        web_config.reload_if_changed(allow_weaker=True)
        return web_config

    def _web(self) -> WebService:
        expose = self.config.expose
        return WebService(
            publisher=self.publisher,
            archive=self.archive,
            submit=self.inbox.put,
            forms=FORMS,
            add_inner=add_inner,
            clock=self.clock,
            listen_address="" if expose.listen_address == NO_LISTENER else expose.listen_address,
            socket_path=expose.socket,
            telemetry_path=expose.telemetry_path,
            web_config=self.web_config,
            limits=ServerLimits(connections=expose.max_connections),
        )


def _url(scheme: str, host: str, port: int) -> str:
    shown = "localhost" if host in ("0.0.0.0", "::") else host  # noqa: S104  shown only
    return f"{scheme}://[{shown}]:{port}/" if ":" in shown else f"{scheme}://{shown}:{port}/"
