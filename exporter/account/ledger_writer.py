"""Ledger thread: commits batches, looks up runs and prunes, so that no tick waits for the disk."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from exporter.account.ledger import Ledger
from exporter.clock import Clock
from exporter.errors import LedgerError, RequestRefused
from exporter.model.commands import ImportRuns
from exporter.model.intensity import Factor
from exporter.model.ledger import ZERO_AMOUNT, Amount, Backfill, Batch, StoredRun, UsageKey
from exporter.model.runs import RunKey
from exporter.units import NANOSECONDS_PER_SECOND, SECONDS_PER_HOUR
from exporter.worker import Worker

log = logging.getLogger(__name__)

RETRY_SECONDS = 10.0
MAX_PENDING_ROWS = 50_000
"""Most rows of usage by minute in memory while the ledger cannot be written; about 30 MB."""
PRUNE_EVERY_NS = SECONDS_PER_HOUR * NANOSECONDS_PER_SECOND


class LedgerWriter:
    """Owner of the ledger once it is started.

    `check` runs a check of the whole file after the first commit, for a start after an unclean
    shutdown. Attributes may be read from any thread.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        *,
        keep_minutes_days: float,
        keep_hours_days: float,
        check: bool,
        worker: Callable[[str, Callable[[], None], float], Worker] = Worker,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._keep_days = keep_minutes_days, keep_hours_days
        self._check = check
        self._damage = ""
        self._error = ""
        self._inbox: deque[Batch] = deque()
        self._lookups: deque[tuple[RunKey, Callable[[StoredRun], None]]] = deque()
        self._backfills: deque[tuple[Mapping[int, Factor], Callable[[Backfill], None]]] = deque(
            maxlen=1
        )
        self._imports: deque[tuple[ImportRuns, Callable[[object], None]]] = deque()
        self._pending: Batch | None = None
        self._prune_ns = clock.boottime_ns() + PRUNE_EVERY_NS
        self.errors = 0
        """Number of failed reads and writes of the ledger."""
        self.committed_at_ns = clock.boottime_ns()
        """Time of the last commit; before the first one, that of the creation of the writer."""
        self.committed_seq = 0
        """All batches up to this one are durable."""
        self.unconverted: tuple[int, ...] = ()
        """The minutes, earliest first, with energy without a factor at the last commit."""
        self._worker = worker("ledger", self._work, RETRY_SECONDS)

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def submit(self, batch: Batch) -> None:
        """Queue a batch; it is committed as soon as the ledger can be written."""
        self._inbox.append(batch)
        self._worker.wake()

    def look_up(self, key: RunKey, answer: Callable[[StoredRun], None]) -> None:
        """Look up a run's stored totals; `answer` is called on the ledger's thread."""
        self._lookups.append((key, answer))
        self._worker.wake()

    def backfill(self, factors: Mapping[int, Factor], answer: Callable[[Backfill], None]) -> None:
        """Convert energy without a factor once all submitted batches are committed.

        `answer` is called on the ledger's thread, in the order of changes and lookups. It is not
        retried: minutes that fail stay in `unconverted`.
        """
        self._backfills.append((factors, answer))
        self._worker.wake()

    def import_runs(self, command: ImportRuns, answer: Callable[[object], None]) -> None:
        """Import runs of another tool.

        `answer` is called on the ledger's thread, with an ImportResult or a RequestRefused.
        """
        self._imports.append((command, answer))
        self._worker.wake()

    def stop(self, timeout_seconds: float) -> bool:
        """Try once more to commit pending batches; False if the disk does not respond in time."""
        return self._worker.stop(timeout_seconds)

    @property
    def is_behind(self) -> bool:
        """Whether a submitted batch is not durable yet."""
        return bool(self._inbox) or self._pending is not None

    @property
    def why(self) -> str:
        """Why the last attempt failed or has not finished; empty if it did not fail."""
        stalled_seconds = self._worker.stalled_seconds
        if not stalled_seconds:
            return self._error
        return (
            f"the disk of {self._ledger.path} has not responded for {stalled_seconds:.0f} s; "
            "check the kernel log (dmesg) for its errors"
        )

    def _work(self) -> None:
        """Do all queued work; a step that fails does not prevent the others."""
        errors = [self._attempt(self._write)]
        if self._backfills and self._pending is None:
            errors.append(self._attempt(self._backfill))
        errors += [self._attempt(self._import_runs) for _ in range(len(self._imports))]
        errors += [self._attempt(self._look_up) for _ in range(len(self._lookups))]
        error = next(filter(None, errors), None)
        text, defect = "", None
        if isinstance(error, LedgerError):
            text = str(error)
        elif error is not None:
            text, defect = f"the ledger's thread failed: {error!r}; please report this", error
        if text and text != self._error:
            if defect is not None:
                log.error("ledger thread failed; please report this", exc_info=defect)
            else:
                log.error("ledger failed", extra={"error": text})
        if not text and self._error not in ("", self._damage):
            log.info("ledger works again")
        self._error = text or self._damage

    def _attempt(self, step: Callable[[], None]) -> Exception | None:
        """Run a step; return its exception."""
        try:
            step()
        except Exception as error:  # noqa: BLE001  whatever it is, it is logged and retried
            self.errors += 1
            return error
        return None

    def _write(self) -> None:
        while self._inbox:
            new = self._inbox.popleft()
            self._pending = new if self._pending is None else merge_batches(self._pending, new)
        batch = self._pending
        if batch is not None:
            self._ledger.commit(batch)
            self._pending = None
            self.committed_at_ns = self._clock.boottime_ns()
            self.committed_seq = batch.seq
            self.unconverted = self._ledger.unconverted(self._clock.wall())
        self._maintain()

    def _backfill(self) -> None:
        factors, answer = self._backfills.popleft()
        backfill = self._ledger.backfill(factors)
        if backfill is not None:
            answer(backfill)
        self.unconverted = self._ledger.unconverted(self._clock.wall())

    def _look_up(self) -> None:
        """Answer one lookup; it is queued again if that fails."""
        key, answer = self._lookups.popleft()
        try:
            stored = self._ledger.stored_run(key)
        except BaseException:
            self._lookups.append((key, answer))
            raise
        answer(stored)

    def _import_runs(self) -> None:
        """Carry out one import; it is not retried, since the client gets the error."""
        command, answer = self._imports.popleft()
        try:
            answer(self._ledger.import_runs(command.records))
        except BaseException as error:
            answer(RequestRefused(503, f"nothing was imported: {error}"))
            raise

    def _maintain(self) -> None:
        """Check the file once and prune periodically, after each commit."""
        if self._check:
            self._check = False
            self._set_damage(self._ledger.quick_check())
        now_ns = self._clock.boottime_ns()
        if now_ns >= self._prune_ns:
            self._prune_ns = now_ns + PRUNE_EVERY_NS
            self._ledger.prune(self._clock.wall(), *self._keep_days)

    def _set_damage(self, damage: str) -> None:
        """Report damage; commits continue as far as possible."""
        if damage:
            self._damage = (
                f"ledger {self._ledger.path} is damaged: {damage}; "
                "stop the exporter, move the file away and start again"
            )
            self.errors += 1
            log.error("ledger damaged", extra={"error": self._damage})


def merge_batches(old: Batch, new: Batch) -> Batch:
    """Return one batch with the effect of both, one after the other."""
    old = _without_merged_runs(old, new.merged)
    usage = dict(old.usage)
    for key, used in new.usage.items():
        usage[key] = usage.get(key, ZERO_AMOUNT).plus(used)
    counter_states = {state.device: state for state in (*old.counter_states, *new.counter_states)}
    runs = {run.key: run for run in (*old.runs, *new.runs)}
    returned = {run.key for run in new.runs}
    departed = dict.fromkeys(key for key in old.departed if key not in returned)
    departed.update(dict.fromkeys(new.departed))
    infos = {info.device: info for info in (*old.infos, *new.infos)}
    return new._replace(
        counter_states=tuple(counter_states.values()),
        lines={**old.lines, **new.lines},
        usage=usage if len(usage) <= MAX_PENDING_ROWS else fold_to_hours(usage),
        runs=tuple(runs.values()),
        floors={**old.floors, **new.floors},
        infos=tuple(infos.values()),
        departed=tuple(departed),
        owners={**old.owners, **new.owners},
        intensity=new.intensity or old.intensity,
        merged=(*old.merged, *new.merged),
    )


def _without_merged_runs(batch: Batch, merged: Iterable[tuple[RunKey, RunKey]]) -> Batch:
    """Return the batch without runs that were merged after it; the next one has their totals."""
    for old, new in merged:
        usage: dict[UsageKey, Amount] = {}
        for key, used in batch.usage.items():
            new_key = key._replace(target=new) if key.target == old else key
            usage[new_key] = usage.get(new_key, ZERO_AMOUNT).plus(used)
        batch = batch._replace(
            lines={line: each for line, each in batch.lines.items() if line.target != old},
            usage=usage,
            runs=tuple(run for run in batch.runs if run.key != old),
            departed=tuple(each for each in batch.departed if each != old),
        )
    return batch


def fold_to_hours(usage: dict[UsageKey, Amount]) -> dict[UsageKey, Amount]:
    """Return the amounts in the first minute of their hour, which takes less memory."""
    folded: dict[UsageKey, Amount] = {}
    for key, used in usage.items():
        hour = key._replace(minute=key.minute - key.minute % 60)
        folded[hour] = folded.get(hour, ZERO_AMOUNT).plus(used)
    return folded
