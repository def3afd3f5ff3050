"""What to go on from after a stop, orderly or not: ledger and journal made into one state.

A published counter goes on at or above every value that it ever showed, or begins at zero; never in
between, since Prometheus would take a small step back for a reset and count the whole total again.
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
    """The state to begin with, and what the ledger has yet to be told of it."""

    restored: RestoredState
    batch: Batch | None
    """The first batch to be committed; until it is, the journal covers for it."""
    clean: bool
    """The last stop was orderly."""


def recover(ledger: Ledger, journal: Journal, boot_id: str, wall: float) -> RecoveredState:
    """Find out where to go on, and tie the journal to this ledger and boot.

    The ledger's mark of an orderly stop stays: take it away by `Ledger.start` when nothing can
    keep the daemon from running any more. Raises LedgerError where the ledger cannot be read. That
    the journal cannot be read becomes a note.
    """
    notes: list[str] = []
    image = None
    try:
        image = journal.read()
    except LedgerError as error:
        notes.append(str(error))
    known = ledger.restore(_runs_to_look_up(image) if image is not None else ())
    journal.origin = JournalOrigin(known.ledger_id, boot_id)
    found = reconcile(known, image, boot_id, wall)
    notes = [*ledger.notes, *notes, *found.restored.notes]
    return found._replace(restored=found.restored._replace(notes=tuple(notes)))


def _runs_to_look_up(image: Checkpoint) -> list[RunKey]:
    """The runs whose past is wanted: those on the page, and those that were merged."""
    runs = [run.key for run in image.layout.runs]
    return list(dict.fromkeys(chain(runs, *(each[:2] for each in image.layout.merged))))


def reconcile(
    known: LedgerState, image: Checkpoint | None, boot_id: str, wall: float
) -> RecoveredState:
    """The state that follows from what was found. Pure.

    The ledger of an orderly stop is good on any boot. Else the journal, if it is of this boot and
    not older than the ledger. Else counters begin at zero. `boot_id` is empty where nobody knows
    it; then no journal is believed.
    """
    if image is not None:
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


def _with_verified_clean_flag(known: LedgerState, image: Checkpoint) -> LedgerState:
    """Without the mark of an orderly stop, if a daemon ran after it.

    With a full disk the mark stays in the ledger when that daemon starts, but its journal, which
    has its room already, says so: after a reboot as well, unless the power was cut before the
    kernel wrote the journal down, half a minute at most.
    """
    ran_on = image.origin.ledger_id == known.ledger_id and image.seq > known.restored.seq
    return known._replace(clean=False) if ran_on else known


def _with_merges(
    known: LedgerState, image: Checkpoint
) -> tuple[LedgerState, tuple[MergedRun, ...]]:
    """The ledger as it will be with the merges that the image knows of, and those that it lacks."""
    missing = tuple(each for each in image.layout.merged if not _has_merge(known, image, each))
    stored_runs = {past.key: past for past in known.stored_runs}
    restored = known.restored
    for old, new, _ in missing:
        was, stays = (stored_runs.get(key) or _stored_run_of(restored, key) for key in (old, new))
        stored_runs[old], stored_runs[new] = StoredRun(old), merge_stored_runs(was, stays)
        lines = dict(restored.lines)
        merge_balances(lines, old, new)
        restored = restored._replace(
            lines=lines, runs=tuple(run for run in restored.runs if run.key != old)
        )
        known = known._replace(late_carbon=merge_backfills(known.late_carbon, old, new))
    on_page = {run.key for run in image.layout.runs}
    known = known._replace(
        restored=restored,
        stored_runs=tuple(past for past in stored_runs.values() if past.key in on_page),
    )
    return known, missing


def _has_merge(known: LedgerState, image: Checkpoint, merged: MergedRun) -> bool:
    """Whether the ledger has a merge: each batch has those that were made before it."""
    seq = known.restored.seq
    is_ours = image.origin.ledger_id == known.ledger_id
    return not is_ours or seq >= image.seq or NO_BATCH < merged.seq <= seq


def _stored_run_of(restored: RestoredState, key: RunKey) -> StoredRun:
    """What the ledger knows of a run that has not left."""
    lines = {line: balance for line, balance in restored.lines.items() if line.target == key}
    info = next((run for run in restored.runs if run.key == key), None)
    return StoredRun(key, info, lines, restored.factor_uses.get(key, ()))


def _from_clean_shutdown(known: LedgerState, image: Checkpoint) -> RecoveredState | None:
    """Go on from the ledger, if it says all that the image says; the journal adds CPU clocks.

    Both have one number, but the ledger may know of a run's past what the image did not yet. Where
    they differ in anything else, the ledger was changed since, and the journal is to be believed.
    """
    if not known.clean or image.seq != known.restored.seq:
        return None
    known_runs = {run.key for run in known.restored.runs}
    if not known_runs.issuperset(run.key for run in image.layout.runs):
        return None
    in_both = {*image.layout.awaiting_history, DEPARTED_RUNS}
    lines = known.restored.lines
    for line, balance in image.balances().items():
        if line.target not in in_both and lines.get(line, ZERO_BALANCE) != balance:
            return None
    restored = known.restored._replace(run_cpu=image.run_cpu, machine_cpu=image.machine_cpu)
    return RecoveredState(restored, None, clean=True)


def _from_zero(known: LedgerState, wall: float) -> RecoveredState:
    """Totals as the ledger has them, counters at zero."""
    restored = known.restored
    lines = {
        line: Balance(balance.total, balance.total) for line, balance in restored.lines.items()
    }
    owners = dict.fromkeys(restored.owners, (0, 0))
    counter_states = tuple(
        position._replace(uncounted=True) for position in restored.counter_states
    )
    runs = tuple(
        run._replace(units=tuple(unit._replace(base=unit.amount) for unit in run.units))
        for run in restored.runs
    )
    note = (
        "The last stop was not orderly and left no journal of this boot: counters begin at zero, "
        "the cumulative gauges go on from the last commit."
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
    """Go on from the image; None if it is older than the ledger, or another one's.

    `missing` are merges that the ledger has yet to be told.
    """
    is_ours = image.origin.ledger_id == known.ledger_id
    if image.seq < known.restored.seq or not (is_ours or known.restored.seq == 0):
        return None
    awaiting_history = set(image.layout.awaiting_history)
    stored_runs = {past.key: past for past in known.stored_runs}
    written = dict(known.restored.lines)
    for past in known.stored_runs:
        written.update(past.lines)
    # A run that waits for its past stands in the journal with what it used since.
    written = {
        line: total for line, total in written.items() if line.target not in awaiting_history
    }
    lines = image.balances()
    usage = _uncommitted_usage(image, lines, written) if is_ours else {}
    if usage is None and known.clean and image.seq == known.restored.seq:
        usage = {}  # both were written at one stop: what the ledger has more was never used
    if usage is None:
        return None
    for key in awaiting_history:
        _rejoin(lines, stored_runs[key])
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
        counter_states=tuple(position._replace(restored=True) for position in image.counter_states),
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
        # What the ledger need not keep is said by a later batch: the journal lacks the fills still.
        backfill_id=known.restored.backfill_id,
        merged=pairs,
    )
    return RecoveredState(restored, batch, known.clean)


def _uncommitted_usage(
    image: Checkpoint, lines: dict[AccountKey, Balance], written: dict[AccountKey, Balance]
) -> dict[UsageKey, Amount] | None:
    """Usage that the journal holds beyond the ledger, in the minute of the image.

    What came late for runs that had left is in the totals of DEPARTED, and in no minute.
    None if a line stands lower than in the ledger: then the image is not what it claims to be.
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


def _rejoin(lines: dict[AccountKey, Balance], past: StoredRun) -> None:
    """What `Books.rejoin` would have done, had there been time."""
    for line, balance in past.lines.items():
        uncounted = Balance(balance.total, balance.total)
        departed = line._replace(target=DEPARTED_RUNS)
        lines[line] = lines.get(line, ZERO_BALANCE).plus(uncounted)
        lines[departed] = lines.get(departed, ZERO_BALANCE).minus(uncounted)


def _factor_uses(
    known: LedgerState, usage: dict[UsageKey, Amount]
) -> dict[RunKey, tuple[FactorUse, ...]]:
    """What the ledger knows of the runs on the page, and what it has yet to be told."""
    uses = {past.key: FactorUses(past.factor_uses) for past in known.stored_runs}
    for key, used in usage.items():
        if isinstance(key.target, RunKey):
            uses[key.target].add(key.factor, used.energy_uj, used.carbon_ng)
    return {key: gathered.totals() for key, gathered in uses.items()}


def _notes(known: LedgerState, *, is_ours: bool) -> tuple[str, ...]:
    if not is_ours:
        return ("The ledger is new: totals were taken over from the journal.",)
    if not known.clean:
        return ("The last stop was not orderly: totals go on from the journal, nothing is lost.",)
    return ()
