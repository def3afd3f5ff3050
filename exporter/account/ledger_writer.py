"""The ledger's thread: commits batches, looks up runs, and cleans up, so that no tick waits."""

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
"""Rows of usage kept in memory by the minute while the ledger cannot be written; about 30 MB."""
PRUNE_EVERY_NS = SECONDS_PER_HOUR * NANOSECONDS_PER_SECOND


class LedgerWriter:
    """Owns the ledger once it is started.

    `check` has the whole file read once after the first commit, for a start after an unclean stop.
    Attributes may be read from any thread.
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
        self._why = ""
        self._inbox: deque[Batch] = deque()
        self._questions: deque[tuple[RunKey, Callable[[StoredRun], None]]] = deque()
        self._fills: deque[tuple[Mapping[int, Factor], Callable[[Backfill], None]]] = deque(
            maxlen=1
        )
        self._histories: deque[tuple[ImportRuns, Callable[[object], None]]] = deque()
        self._pending: Batch | None = None
        self._prune_ns = clock.boottime_ns() + PRUNE_EVERY_NS
        self.errors = 0
        """Times that the ledger could not be read or written."""
        self.committed_at_ns = clock.boottime_ns()
        """When the last commit was made, or else when the writer was."""
        self.committed_seq = 0
        """All batches up to this one are durable."""
        self.unconverted: tuple[int, ...] = ()
        """The minutes with energy that has no grams, as of the last commit; earliest first."""
        self._worker = worker("ledger", self._work, RETRY_SECONDS)

    def start(self) -> None:
        """Begin."""
        self._worker.start()

    def submit(self, batch: Batch) -> None:
        """Have a batch committed as soon as the ledger can be written."""
        self._inbox.append(batch)
        self._worker.wake()

    def look_up(self, key: RunKey, answer: Callable[[StoredRun], None]) -> None:
        """Have the past of a run found; `answer` is called on the ledger's thread."""
        self._questions.append((key, answer))
        self._worker.wake()

    def backfill(self, factors: Mapping[int, Factor], answer: Callable[[Backfill], None]) -> None:
        """Have the minutes converted once all that was submitted is committed.

        `answer` is called on the ledger's thread, in the order in which the ledger changes and is
        looked up. It is tried once: what fails stays among `unconverted`.
        """
        self._fills.append((factors, answer))
        self._worker.wake()

    def import_runs(self, command: ImportRuns, answer: Callable[[object], None]) -> None:
        """Have runs of another tool put into the ledger.

        `answer` is called on the ledger's thread, with a Taken or a Refused.
        """
        self._histories.append((command, answer))
        self._worker.wake()

    def stop(self, timeout_seconds: float) -> bool:
        """Try once more to commit what is left; False if the disk does not answer in time."""
        return self._worker.stop(timeout_seconds)

    @property
    def is_behind(self) -> bool:
        """Whether something that was submitted is not durable yet."""
        return bool(self._inbox) or self._pending is not None

    @property
    def why(self) -> str:
        """Why the last try failed, or has not ended yet; empty if it did not fail."""
        stalled_seconds = self._worker.stalled_seconds
        if not stalled_seconds:
            return self._why
        return (
            f"the disk of {self._ledger.path} has not answered for {stalled_seconds:.0f} s; "
            "look for its errors in the kernel log (dmesg)"
        )

    def _work(self) -> None:
        """Commit, and answer what was asked; what fails does not keep the rest from being done."""
        errors = [self._attempt(self._write)]
        if self._fills and self._pending is None:
            errors.append(self._attempt(self._fill))
        errors += [self._attempt(self._take_in) for _ in range(len(self._histories))]
        errors += [self._attempt(self._answer) for _ in range(len(self._questions))]
        error = next(filter(None, errors), None)
        why, defect = "", None
        if isinstance(error, LedgerError):
            why = str(error)
        elif error is not None:
            why, defect = f"the ledger's thread failed: {error!r}; please report this", error
        if why and why != self._why:
            log.error("%s", why, exc_info=defect)
        if not why and self._why not in ("", self._damage):
            log.info("the ledger works again")
        self._why = why or self._damage

    def _attempt(self, step: Callable[[], None]) -> Exception | None:
        """Take the step; the answer is what went wrong."""
        try:
            step()
        except Exception as error:  # noqa: BLE001  whatever it is, it is said and tried again
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
        self._look_after()

    def _fill(self) -> None:
        factors, answer = self._fills.popleft()
        fill = self._ledger.backfill(factors)
        if fill is not None:
            answer(fill)
        self.unconverted = self._ledger.unconverted(self._clock.wall())

    def _answer(self) -> None:
        """Answer one question; it is asked again later if that fails."""
        key, answer = self._questions.popleft()
        try:
            past = self._ledger.stored_run(key)
        except BaseException:
            self._questions.append((key, answer))
            raise
        answer(past)

    def _take_in(self) -> None:
        """Once: who asks is told what went wrong."""
        command, answer = self._histories.popleft()
        try:
            answer(self._ledger.import_runs(command.records))
        except BaseException as error:
            answer(RequestRefused(503, f"nothing was taken in: {error}"))
            raise

    def _look_after(self) -> None:
        """Rare work, after the urgent."""
        if self._check:
            self._check = False
            self._note_damage(self._ledger.quick_check())
        now_ns = self._clock.boottime_ns()
        if now_ns >= self._prune_ns:
            self._prune_ns = now_ns + PRUNE_EVERY_NS
            self._ledger.prune(self._clock.wall(), *self._keep_days)

    def _note_damage(self, damage: str) -> None:
        """Commits go on, as far as the damage lets them."""
        if damage:
            self._damage = (
                f"ledger {self._ledger.path} is damaged: {damage}; "
                "stop the exporter, move the file away and start again"
            )
            self.errors += 1
            log.error("%s", self._damage)


def merge_batches(old: Batch, new: Batch) -> Batch:
    """One batch that does what the two would, one after the other."""
    old = _without_merged_runs(old, new.merged)
    usage = dict(old.usage)
    for key, used in new.usage.items():
        usage[key] = usage.get(key, ZERO_AMOUNT).plus(used)
    counter_states = {
        position.device: position for position in (*old.counter_states, *new.counter_states)
    }
    runs = {run.key: run for run in (*old.runs, *new.runs)}
    back = {run.key for run in new.runs}
    departed = dict.fromkeys(key for key in old.departed if key not in back)
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
    """The batch without runs that became others after it: their lines, the next one has."""
    for gone, key in merged:
        usage: dict[UsageKey, Amount] = {}
        for known, used in batch.usage.items():
            row = known._replace(target=key) if known.target == gone else known
            usage[row] = usage.get(row, ZERO_AMOUNT).plus(used)
        batch = batch._replace(
            lines={line: each for line, each in batch.lines.items() if line.target != gone},
            usage=usage,
            runs=tuple(run for run in batch.runs if run.key != gone),
            departed=tuple(each for each in batch.departed if each != gone),
        )
    return batch


def fold_to_hours(usage: dict[UsageKey, Amount]) -> dict[UsageKey, Amount]:
    """The same amounts in the first minute of their hour, which takes less memory."""
    folded: dict[UsageKey, Amount] = {}
    for key, used in usage.items():
        hour = key._replace(minute=key.minute - key.minute % 60)
        folded[hour] = folded.get(hour, ZERO_AMOUNT).plus(used)
    return folded
