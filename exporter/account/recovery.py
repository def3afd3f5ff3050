"""What to go on from after a stop, orderly or not: ledger and journal made into one state.

A published counter goes on at or above every value that it ever showed, or begins at zero; never in
between, since Prometheus would take a small step back for a reset and count the whole total again.
"""

from itertools import chain
from typing import NamedTuple

from exporter.account.accounts import FactorUses
from exporter.account.filling import filled
from exporter.account.image import NO_BATCH, Image, Merged, Origin
from exporter.account.journal import Journal
from exporter.account.ledger import Known, Ledger
from exporter.account.merging import merge_lates, merge_lines, merge_pasts
from exporter.errors import LedgerError
from exporter.model.books import (
    NOTHING,
    Amount,
    Balance,
    Batch,
    FactorUse,
    Line,
    Past,
    Restored,
    UsageKey,
)
from exporter.model.runs import DEPARTED, RunKey, with_past

ZERO = Balance(NOTHING)


class Recovered(NamedTuple):
    """The state to begin with, and what the ledger has yet to be told of it."""

    restored: Restored
    batch: Batch | None
    """The first batch to be committed; until it is, the journal covers for it."""
    clean: bool
    """The last stop was orderly."""


def recover(ledger: Ledger, journal: Journal, boot_id: str, wall: float) -> Recovered:
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
    known = ledger.restore(_asked(image) if image is not None else ())
    journal.origin = Origin(known.ledger_id, boot_id)
    found = reconcile(known, image, boot_id, wall)
    notes = [*ledger.notes, *notes, *found.restored.notes]
    return found._replace(restored=found.restored._replace(notes=tuple(notes)))


def _asked(image: Image) -> list[RunKey]:
    """The runs whose past is wanted: those on the page, and those that were merged."""
    runs = [run.key for run in image.layout.runs]
    return list(dict.fromkeys(chain(runs, *(each[:2] for each in image.layout.merged))))


def reconcile(known: Known, image: Image | None, boot_id: str, wall: float) -> Recovered:
    """The state that follows from what was found. Pure.

    The ledger of an orderly stop is good on any boot. Else the journal, if it is of this boot and
    not older than the ledger. Else counters begin at zero. `boot_id` is empty where nobody knows
    it; then no journal is believed.
    """
    if image is not None:
        known = _with_true_mark(known, image)
    if image is not None and boot_id and image.origin.boot_id == boot_id:
        merged, missing = _with_merges(known, image)
        image = filled(image, merged.lates)
        continued = _from_orderly_stop(merged, image) or _from_journal(merged, image, missing)
        if continued is not None:
            return continued
    if known.clean or not known.restored.lines:
        return Recovered(known.restored, None, known.clean)
    return _from_zero(known, wall)


def _with_true_mark(known: Known, image: Image) -> Known:
    """Without the mark of an orderly stop, if a daemon ran after it.

    With a full disk the mark stays in the ledger when that daemon starts, but its journal, which
    has its room already, says so: after a reboot as well, unless the power was cut before the
    kernel wrote the journal down, half a minute at most.
    """
    ran_on = image.origin.ledger_id == known.ledger_id and image.seq > known.restored.seq
    return known._replace(clean=False) if ran_on else known


def _with_merges(known: Known, image: Image) -> tuple[Known, tuple[Merged, ...]]:
    """The ledger as it will be with the merges that the image knows of, and those that it lacks."""
    missing = tuple(each for each in image.layout.merged if not _has(known, image, each))
    pasts = {past.key: past for past in known.pasts}
    restored = known.restored
    for old, new, _ in missing:
        was, stays = (pasts.get(key) or _here(restored, key) for key in (old, new))
        pasts[old], pasts[new] = Past(old), merge_pasts(was, stays)
        lines = dict(restored.lines)
        merge_lines(lines, old, new)
        restored = restored._replace(
            lines=lines, runs=tuple(run for run in restored.runs if run.key != old)
        )
        known = known._replace(lates=merge_lates(known.lates, old, new))
    on_page = {run.key for run in image.layout.runs}
    known = known._replace(
        restored=restored, pasts=tuple(past for past in pasts.values() if past.key in on_page)
    )
    return known, missing


def _has(known: Known, image: Image, merged: Merged) -> bool:
    """Whether the ledger has a merge: each batch has those that were made before it."""
    seq = known.restored.seq
    is_ours = image.origin.ledger_id == known.ledger_id
    return not is_ours or seq >= image.seq or NO_BATCH < merged.seq <= seq


def _here(restored: Restored, key: RunKey) -> Past:
    """What the ledger knows of a run that has not left."""
    lines = {line: balance for line, balance in restored.lines.items() if line.party == key}
    info = next((run for run in restored.runs if run.key == key), None)
    return Past(key, info, lines, restored.factor_uses.get(key, ()))


def _from_orderly_stop(known: Known, image: Image) -> Recovered | None:
    """Go on from the ledger, if it says all that the image says; the journal adds CPU clocks.

    Both have one number, but the ledger may know of a run's past what the image did not yet. Where
    they differ in anything else, the ledger was changed since, and the journal is to be believed.
    """
    if not known.clean or image.seq != known.restored.seq:
        return None
    known_runs = {run.key for run in known.restored.runs}
    if not known_runs.issuperset(run.key for run in image.layout.runs):
        return None
    in_both = {*image.layout.joining, DEPARTED}
    lines = known.restored.lines
    for line, balance in image.balances().items():
        if line.party not in in_both and lines.get(line, ZERO) != balance:
            return None
    restored = known.restored._replace(run_cpu=image.run_cpu, machine_cpu=image.machine_cpu)
    return Recovered(restored, None, clean=True)


def _from_zero(known: Known, wall: float) -> Recovered:
    """Totals as the ledger has them, counters at zero."""
    restored = known.restored
    lines = {
        line: Balance(balance.total, balance.total) for line, balance in restored.lines.items()
    }
    owners = dict.fromkeys(restored.owners, (0, 0))
    positions = tuple(position._replace(uncounted=True) for position in restored.positions)
    runs = tuple(
        run._replace(units=tuple(unit._replace(base=unit.amount) for unit in run.units))
        for run in restored.runs
    )
    note = (
        "The last stop was not orderly and left no journal of this boot: counters begin at zero, "
        "the cumulative gauges go on from the last commit."
    )
    return Recovered(
        restored._replace(
            positions=positions, lines=lines, runs=runs, owners=owners, notes=(note,)
        ),
        Batch(
            seq=restored.seq,
            at_ns=0,
            wall=wall,
            positions=positions,
            lines=lines,
            usage={},
            runs=runs,
            floors={},
            owners=owners,
            filled=restored.filled,
        ),
        clean=False,
    )


def _from_journal(known: Known, image: Image, missing: tuple[Merged, ...]) -> Recovered | None:
    """Go on from the image; None if it is older than the ledger, or another one's.

    `missing` are merges that the ledger has yet to be told.
    """
    is_ours = image.origin.ledger_id == known.ledger_id
    if image.seq < known.restored.seq or not (is_ours or known.restored.seq == 0):
        return None
    joining = set(image.layout.joining)
    pasts = {past.key: past for past in known.pasts}
    written = dict(known.restored.lines)
    for past in known.pasts:
        written.update(past.lines)
    # A run that waits for its past stands in the journal with what it used since.
    written = {line: total for line, total in written.items() if line.party not in joining}
    lines = image.balances()
    usage = _unwritten(image, lines, written) if is_ours else {}
    if usage is None and known.clean and image.seq == known.restored.seq:
        usage = {}  # both were written at one stop: what the ledger has more was never used
    if usage is None:
        return None
    for key in joining:
        _rejoin(lines, pasts[key])
    runs = tuple(
        with_past(run, pasts[run.key].info) if run.key in joining else run
        for run in image.layout.runs
    )
    known_runs = {run.key: run for run in known.restored.runs}
    here = {run.key for run in runs}
    owners = {owner: (energy_uj, carbon_ng) for owner, energy_uj, carbon_ng in image.layout.owners}
    pairs = tuple((old, new) for old, new, _ in missing)
    restored = known.restored._replace(
        seq=image.seq,
        positions=tuple(position._replace(restored=True) for position in image.positions),
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
        positions=image.positions,
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
        filled=known.restored.filled,
        merged=pairs,
    )
    return Recovered(restored, batch, known.clean)


def _unwritten(
    image: Image, lines: dict[Line, Balance], written: dict[Line, Balance]
) -> dict[UsageKey, Amount] | None:
    """Usage that the journal holds beyond the ledger, in the minute of the image.

    What came late for runs that had left is in the totals of DEPARTED, and in no minute.
    None if a line stands lower than in the ledger: then the image is not what it claims to be.
    """
    minute = int(image.wall // 60)
    usage = {}
    for line, balance in lines.items():
        if line.party == DEPARTED:
            continue
        used = balance.total.minus(written.get(line, ZERO).total)
        if min(used) < 0:
            return None
        if any(used):
            key = UsageKey(minute, line.device, line.party, image.factor, line.method, line.split)
            usage[key] = used
    return usage


def _rejoin(lines: dict[Line, Balance], past: Past) -> None:
    """What `Books.rejoin` would have done, had there been time."""
    for line, balance in past.lines.items():
        uncounted = Balance(balance.total, balance.total)
        departed = line._replace(party=DEPARTED)
        lines[line] = lines.get(line, ZERO).plus(uncounted)
        lines[departed] = lines.get(departed, ZERO).minus(uncounted)


def _factor_uses(
    known: Known, usage: dict[UsageKey, Amount]
) -> dict[RunKey, tuple[FactorUse, ...]]:
    """What the ledger knows of the runs on the page, and what it has yet to be told."""
    uses = {past.key: FactorUses(past.factor_uses) for past in known.pasts}
    for key, used in usage.items():
        if isinstance(key.party, RunKey):
            uses[key.party].add(key.factor, used.energy_uj, used.carbon_ng)
    return {key: gathered.shown() for key, gathered in uses.items()}


def _notes(known: Known, *, is_ours: bool) -> tuple[str, ...]:
    if not is_ours:
        return ("The ledger is new: totals were taken over from the journal.",)
    if not known.clean:
        return ("The last stop was not orderly: totals go on from the journal, nothing is lost.",)
    return ()
