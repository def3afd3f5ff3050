"""Recovery: reconciles ledger and journal at start into the state from which to continue.

A published counter continues at or above every value that it ever showed, or begins at zero. Never
in between: Prometheus takes any decrease for a reset and would count the whole total again.
"""

from itertools import chain
from typing import NamedTuple

from exporter.account.accounts import FactorUses
from exporter.account.backfill import apply_missing_backfills
from exporter.account.journal import Journal
from exporter.account.journal_format import NO_BATCH, Checkpoint, JournalOrigin, MergedRun
from exporter.account.ledger import Ledger, LedgerState
from exporter.account.run_merges import merge_backfills, merge_balances, merge_stored_runs
from exporter.errors import LedgerError
from exporter.model.ledger import (
    ZERO_AMOUNT,
    AccountKey,
    Amount,
    Balance,
    Batch,
    FactorUse,
    RestoredState,
    StoredRun,
    UsageKey,
)
from exporter.model.runs import DEPARTED_RUNS, RunKey, with_stored_run

ZERO_BALANCE = Balance(ZERO_AMOUNT)


class RecoveredState(NamedTuple):
    """The state to start with, and the part of it that the ledger does not have."""

    restored: RestoredState
    batch: Batch | None
    """The first batch to commit; until then the journal has its contents."""
    clean: bool
    """The last shutdown was clean."""


def recover(ledger: Ledger, journal: Journal, boot_id: str, wall: float) -> RecoveredState:
    """Recover the state, and set the origin of the journal to this ledger and boot.

    The ledger's flag of a clean shutdown is kept: clear it by `Ledger.start` when nothing can
    prevent the daemon from running any more. Raises LedgerError if the ledger cannot be read. A
    journal that cannot be read is a note.
    """
    notes: list[str] = []
    image = None
    try:
        image = journal.read()
    except LedgerError as error:
        notes.append(str(error))
    stored = ledger.restore(_runs_to_look_up(image) if image is not None else ())
    journal.origin = JournalOrigin(stored.ledger_id, boot_id)
    recovered = reconcile(stored, image, boot_id, wall)
    notes = [*ledger.notes, *notes, *recovered.restored.notes]
    return recovered._replace(restored=recovered.restored._replace(notes=tuple(notes)))


def _runs_to_look_up(image: Checkpoint) -> list[RunKey]:
    """Return the runs with stored totals to read: those in the checkpoint and merged ones."""
    runs = [run.key for run in image.layout.runs]
    return list(dict.fromkeys(chain(runs, *(each[:2] for each in image.layout.merged))))


def reconcile(
    known: LedgerState, image: Checkpoint | None, boot_id: str, wall: float
) -> RecoveredState:
    """Return the state that follows from ledger and journal. Pure.

    After a clean shutdown the ledger is used, on any boot, if the journal has the same number.
    Otherwise the journal is used if it is of this boot and not older than the ledger. Otherwise
    counters begin at zero. An empty `boot_id` means unknown; then no journal is used.
    """
    known = _with_verified_clean_flag(known, image)
    if image is not None and boot_id and image.origin.boot_id == boot_id:
        merged, missing = _with_merges(known, image)
        image = apply_missing_backfills(image, merged.late_carbon)
        continued = _from_clean_shutdown(merged, image) or _from_journal(merged, image, missing)
        if continued is not None:
            return continued
    if known.clean or not known.restored.lines:
        return RecoveredState(known.restored, None, known.clean)
    return _from_zero(known, wall)


def _with_verified_clean_flag(known: LedgerState, image: Checkpoint | None) -> LedgerState:
    """Clear the flag of a clean shutdown unless the journal is that of this shutdown.

    A daemon may have published higher values since: the ledger may be a restored copy, whose
    journal was removed or is newer. If the disk is full, a daemon cannot clear the flag in the
    ledger. Its journal has its space allocated and is newer than the ledger, also after a reboot,
    unless power was lost before the kernel wrote the journal to disk (half a minute at most).
    """
    is_latest = image is not None and (image.origin.ledger_id, image.seq) == (
        known.ledger_id,
        known.restored.seq,
    )
    return known if is_latest else known._replace(clean=False)


def _with_merges(
    known: LedgerState, image: Checkpoint
) -> tuple[LedgerState, tuple[MergedRun, ...]]:
    """Apply the checkpoint's merges to the ledger's state; also return those that it lacked."""
    missing = tuple(each for each in image.layout.merged if not _has_merge(known, image, each))
    stored_runs = {stored.key: stored for stored in known.stored_runs}
    restored = known.restored
    for old, new, _ in missing:
        source, target = (
            stored_runs.get(key) or _stored_run_of(restored, key) for key in (old, new)
        )
        stored_runs[old], stored_runs[new] = StoredRun(old), merge_stored_runs(source, target)
        lines = dict(restored.lines)
        merge_balances(lines, old, new)
        restored = restored._replace(
            lines=lines, runs=tuple(run for run in restored.runs if run.key != old)
        )
        known = known._replace(late_carbon=merge_backfills(known.late_carbon, old, new))
    present = {run.key for run in image.layout.runs}
    known = known._replace(
        restored=restored,
        stored_runs=tuple(stored for stored in stored_runs.values() if stored.key in present),
    )
    return known, missing


def _has_merge(known: LedgerState, image: Checkpoint, merged: MergedRun) -> bool:
    """Return whether the ledger has a merge: a batch includes all merges made before it."""
    seq = known.restored.seq
    is_ours = image.origin.ledger_id == known.ledger_id
    return not is_ours or seq >= image.seq or NO_BATCH < merged.seq <= seq


def _stored_run_of(restored: RestoredState, key: RunKey) -> StoredRun:
    """Return the stored totals of a run that has not departed."""
    lines = {line: balance for line, balance in restored.lines.items() if line.target == key}
    info = next((run for run in restored.runs if run.key == key), None)
    return StoredRun(key, info, lines, restored.factor_uses.get(key, ()))


def _from_clean_shutdown(known: LedgerState, image: Checkpoint) -> RecoveredState | None:
    """Continue from the ledger if it has everything in the checkpoint, which adds CPU times.

    Both have the same number, but the ledger may have stored totals that the checkpoint was still
    waiting for. If they differ in anything else, the ledger was changed since, and the result is
    None: the journal is used.
    """
    if not known.clean or image.seq != known.restored.seq:
        return None
    known_runs = {run.key for run in known.restored.runs}
    if not known_runs.issuperset(run.key for run in image.layout.runs):
        return None
    may_differ = {*image.layout.awaiting_history, DEPARTED_RUNS}
    lines = known.restored.lines
    for line, balance in image.balances().items():
        if line.target not in may_differ and lines.get(line, ZERO_BALANCE) != balance:
            return None
    restored = known.restored._replace(run_cpu=image.run_cpu, machine_cpu=image.machine_cpu)
    return RecoveredState(restored, None, clean=True)


def _from_zero(known: LedgerState, wall: float) -> RecoveredState:
    """Continue with the totals of the ledger and start counters at zero."""
    restored = known.restored
    lines = {
        line: Balance(balance.total, balance.total) for line, balance in restored.lines.items()
    }
    owners = dict.fromkeys(restored.owners, (0, 0))
    counter_states = tuple(state._replace(uncounted=True) for state in restored.counter_states)
    runs = tuple(
        run._replace(units=tuple(unit._replace(base=unit.amount) for unit in run.units))
        for run in restored.runs
    )
    note = (
        "The last shutdown was not clean and left no journal of this boot, or the ledger is a "
        "restored copy: counters begin at zero, the cumulative gauges continue from the last "
        "commit."
    )
    return RecoveredState(
        restored._replace(
            counter_states=counter_states, lines=lines, runs=runs, owners=owners, notes=(note,)
        ),
        Batch(
            seq=restored.seq,
            at_ns=0,
            wall=wall,
            counter_states=counter_states,
            lines=lines,
            usage={},
            runs=runs,
            floors={},
            owners=owners,
            backfill_id=restored.backfill_id,
        ),
        clean=False,
    )


def _from_journal(
    known: LedgerState, image: Checkpoint, missing: tuple[MergedRun, ...]
) -> RecoveredState | None:
    """Continue from the checkpoint; None if it is older than the ledger or of another ledger.

    `missing` are merges that the ledger does not have.
    """
    is_ours = image.origin.ledger_id == known.ledger_id
    if image.seq < known.restored.seq or not (is_ours or known.restored.seq == 0):
        return None
    awaiting_history = set(image.layout.awaiting_history)
    stored_runs = {stored.key: stored for stored in known.stored_runs}
    written = dict(known.restored.lines)
    for stored in known.stored_runs:
        written.update(stored.lines)
    # For a run that awaits its stored totals, the journal has only what it used since.
    written = {
        line: total for line, total in written.items() if line.target not in awaiting_history
    }
    lines = image.balances()
    usage = _uncommitted_usage(image, lines, written) if is_ours else {}
    if usage is None and known.clean and image.seq == known.restored.seq:
        usage = {}  # both were written at one shutdown: no energy was used in between
    if usage is None:
        return None
    for key in awaiting_history:
        _add_stored_totals(lines, stored_runs[key])
    runs = tuple(
        with_stored_run(run, stored_runs[run.key].info) if run.key in awaiting_history else run
        for run in image.layout.runs
    )
    known_runs = {run.key: run for run in known.restored.runs}
    here = {run.key for run in runs}
    owners = {owner: (energy_uj, carbon_ng) for owner, energy_uj, carbon_ng in image.layout.owners}
    pairs = tuple((old, new) for old, new, _ in missing)
    restored = known.restored._replace(
        seq=image.seq,
        counter_states=tuple(state._replace(restored=True) for state in image.counter_states),
        lines=lines,
        runs=runs,
        factor_uses=_factor_uses(known, usage),
        run_cpu=image.run_cpu,
        machine_cpu=image.machine_cpu,
        wall=image.wall,
        notes=_notes(known, is_ours=is_ours),
        owners=owners,
        merged=pairs,
    )
    batch = Batch(
        seq=image.seq,
        at_ns=image.at_ns,
        wall=image.wall,
        counter_states=image.counter_states,
        lines={line: now for line, now in lines.items() if written.get(line) != now},
        usage=usage,
        runs=tuple(run for run in runs if known_runs.get(run.key) != run),
        floors={},
        departed=tuple(key for key in known_runs if key not in here),
        owners={
            owner: sums
            for owner, sums in owners.items()
            if known.restored.owners.get(owner) != sums
        },
        # A later batch deletes applied backfills: the journal does not include them yet.
        backfill_id=known.restored.backfill_id,
        merged=pairs,
    )
    return RecoveredState(restored, batch, known.clean)


def _uncommitted_usage(
    image: Checkpoint, lines: dict[AccountKey, Balance], written: dict[AccountKey, Balance]
) -> dict[UsageKey, Amount] | None:
    """Return the usage in the journal that the ledger lacks, in the minute of the checkpoint.

    Late energy of departed runs is in the totals of DEPARTED_RUNS and in no minute.
    None if a total is lower than in the ledger: then the checkpoint does not belong to it.
    """
    minute = int(image.wall // 60)
    usage = {}
    for line, balance in lines.items():
        if line.target == DEPARTED_RUNS:
            continue
        used = balance.total.minus(written.get(line, ZERO_BALANCE).total)
        if min(used) < 0:
            return None
        if any(used):
            key = UsageKey(minute, line.device, line.target, image.factor, line.method, line.split)
            usage[key] = used
    return usage


def _add_stored_totals(lines: dict[AccountKey, Balance], stored: StoredRun) -> None:
    """Add a run's stored totals to its accounts, as `Books.restore_run` does."""
    for line, balance in stored.lines.items():
        uncounted = Balance(balance.total, balance.total)
        departed = line._replace(target=DEPARTED_RUNS)
        lines[line] = lines.get(line, ZERO_BALANCE).plus(uncounted)
        lines[departed] = lines.get(departed, ZERO_BALANCE).minus(uncounted)


def _factor_uses(
    known: LedgerState, usage: dict[UsageKey, Amount]
) -> dict[RunKey, tuple[FactorUse, ...]]:
    """Return the factor uses of the stored runs with the usage that the ledger lacks."""
    uses = {stored.key: FactorUses(stored.factor_uses) for stored in known.stored_runs}
    for key, used in usage.items():
        if isinstance(key.target, RunKey):
            uses[key.target].add(key.factor, used.energy_uj, used.carbon_ng)
    return {key: of_run.totals() for key, of_run in uses.items()}


def _notes(known: LedgerState, *, is_ours: bool) -> tuple[str, ...]:
    if not is_ours:
        return ("The ledger is new: totals were restored from the journal.",)
    if not known.clean:
        return (
            "The last shutdown was not clean: totals continue from the journal, no data is lost.",
        )
    return ()
