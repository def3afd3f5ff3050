"""The registry of open and retained runs: opening, reopening, merging, capping and expiry."""

from collections.abc import Callable, Iterable, Sequence

from exporter.attribute.identity import OTHER_RUN_ID
from exporter.job_variables import SCHEDULER_NAMES
from exporter.model.commands import LogRun
from exporter.model.forecast import add_mark
from exporter.model.runs import (
    NO_UID,
    POD,
    ProgressMark,
    RunInfo,
    RunKey,
    RunMerge,
    UnitCount,
    with_stored_run,
)

OTHER_RUN = RunKey(NO_UID, OTHER_RUN_ID, "")
ENDED = "ended"
"""End reason: ended explicitly by request."""
RESERVED_PART = 10
"""One of so many published runs is left to other users."""
MAX_NAMES = 64
"""Limit for the number of units, and of results, per run."""
MERGED = "merged"
"""End reason of a provisional run: identified as another run, which `enclosing` names."""
EXITED = "exited"
"""End reason: the last process exited."""


def is_other_scheduler(job: RunInfo, origin: str) -> bool:
    """Whether a run is a job of a scheduler other than `origin`."""
    return origin in SCHEDULER_NAMES and job.origin in SCHEDULER_NAMES and job.origin != origin


class RunRegistry:
    """All published runs, by key.

    Opening the key of an ended run reopens it: totals continue and the first start time is kept.
    At `max_runs` published runs, a new run evicts the run that ended first; if all are open, the
    new run is folded into `other` at its start, never later. So is one that a process of a user has
    named, if that user's open runs are nine tenths of `max_runs`: no user can displace all others.
    """

    def __init__(self, runs: Iterable[RunInfo], max_runs: int) -> None:
        self._runs = {run.key: run for run in runs}
        self._max_runs = max_runs
        self._max_runs_of_user = max_runs - max_runs // RESERVED_PART
        self._changed: dict[RunKey, RunInfo] = {}
        self._opened: list[RunKey] = []
        self._displaced: list[RunKey] = []
        self._merges = {
            run.key: RunMerge(run.key, run.enclosing, is_counted=False)
            for run in self._runs.values()
            if run.end_reason == MERGED and run.enclosing is not None
        }
        """Merges that the books have not applied yet, including those from before a restart."""
        self._hidden: set[RunKey] = set()
        self._successors: set[RunKey] = set()
        """New runs that replace others on the page once the books have merged these."""
        self._running: Sequence[RunInfo] | None = None
        self._innermost_first: Sequence[RunInfo] | None = None
        self._visible: tuple[RunInfo, ...] | None = None
        self._unnamed: Sequence[RunInfo] | None = None
        """None: runs have changed since the last call."""
        self._off_page: set[RunKey] = set()
        self.dropped = 0

    def open(self, wanted: RunInfo, enclosing: RunKey | None = None) -> RunInfo:
        """Open, reopen or join a run; the result has the key that was assigned.

        An inner run without a job id inherits that of its enclosing run; inside a pod it inherits
        the pod's namespace and labels. Jobs of two schedulers with the same id are two runs.
        """
        key = wanted.key
        if not key.job_id and enclosing is not None:
            key = key._replace(job_id=enclosing.job_id)
        while key in self._merges:
            key = self._merges[key].new
        wanted = self._placed(wanted, enclosing)
        known = self._runs.get(key)
        if known is not None and is_other_scheduler(known, wanted.origin):
            key = key._replace(run_id=f"{wanted.origin}:{key.run_id}")
            known = self._runs.get(key)
        if known is not None and known.ended is None:
            return self._join(known, wanted)
        if known is None and not self._has_room(wanted):
            self.dropped += 1
            return self._fold(wanted)
        run = wanted._replace(key=key, enclosing=enclosing)
        if known is None:
            run = run._replace(shown_id=self._shown_id(run))
            self._opened.append(key)
        else:
            run = self._reopened(known, run)
        self._put(run)
        return run

    def fill_user_names(self, name_of: Callable[[int], str]) -> None:
        """Set the user of runs that were opened before the user's name was known."""
        if self._unnamed is None:
            self._unnamed = [run for run in self._runs.values() if not run.is_user_known]
        for run in self._unnamed:
            user = name_of(run.key.uid)
            if user:
                self._put(run._replace(user=user))

    def identify(self, key: RunKey, wanted: RunInfo) -> RunInfo:
        """Replace a provisional run by the run that it was identified as; it may have ended.

        If that run has another key, the books merge everything booked on the provisional run into
        it, and the provisional run leaves the page.
        """
        old = self._runs[key]
        if key == wanted.key:
            run = old._replace(
                name=wanted.name,
                namespace=wanted.namespace,
                labels=wanted.labels,
                is_provisional=wanted.is_provisional,
            )
            self._put(run)
            self._hidden.discard(key)
            self._identify_inner(key, run)
            return run
        known = self._runs.get(wanted.key)
        if known is None:
            run = wanted._replace(
                started=old.started,
                ended=old.ended,
                end_reason=old.end_reason,
                enclosing=old.enclosing,
                shown_id=self._shown_id(wanted),
            )
            self._opened.append(run.key)
            if key not in self._hidden:
                self._successors.add(run.key)
        elif known.ended is None or old.ended is not None:
            run = self._joined(known, wanted)
            if run.ended is not None and old.ended is not None and old.ended > run.ended:
                run = run._replace(ended=old.ended, end_reason=old.end_reason)
        else:
            run = self._reopened(known, wanted._replace(enclosing=old.enclosing))
        self._put(
            run._replace(
                started=min(run.started, old.started),
                units=_sum_units(run.units, old.units),
                logged=tuple({**dict(old.logged), **dict(run.logged)}.items()),
                progress=run.progress or old.progress,
            )
        )
        is_counted = known is None or key in self._hidden or run.key in self._successors
        self._merges[key] = RunMerge(key, run.key, is_counted)
        self._identify_inner(key, run)
        self._put(old._replace(ended=wanted.started, end_reason=MERGED, enclosing=run.key))
        return self._runs[run.key]

    def hide(self, key: RunKey) -> None:
        """Do not publish a new run that may be identified soon.

        A run that was published before, such as `other`, stays on the page.
        """
        if key in self._opened:
            self._hidden.add(key)

    def reveal(self, key: RunKey) -> None:
        """Publish a hidden run."""
        self._hidden.discard(key)

    def merges(self) -> list[RunMerge]:
        """Merges that the books have to apply."""
        return list(self._merges.values())

    def drop(self, merge: RunMerge) -> None:
        """Remove a run that the books have merged."""
        del self._merges[merge.old]
        self._hidden.discard(merge.old)
        if merge.new not in [each.new for each in self._merges.values()]:
            self._successors.discard(merge.new)
        if self._runs[merge.old].end_reason == MERGED:
            self._remove(merge.old)

    def close(self, key: RunKey, wall: float, reason: str) -> RunInfo:
        """End a run. It stays on the page, unchanged, until `pop_expired` removes it.

        Its inner runs are moved into its enclosing run.
        """
        run = self._runs[key]._replace(ended=wall, end_reason=reason)
        self._put(run)
        self._hidden.discard(key)
        for inner in self.running():
            if inner.enclosing == key:
                self._put(inner._replace(enclosing=run.enclosing))
        return run

    def pop_expired(self, wall: float, retain_seconds: float) -> list[RunKey]:
        """Remove runs that ended `retain_seconds` ago; return all removed since the last call."""
        gone = [
            run.key
            for run in self._runs.values()
            # abs(): a wall clock that was set back must not keep the run longer
            if run.ended is not None
            and abs(wall - run.ended) >= retain_seconds
            and run.key not in self._merges
        ]
        for key in gone:
            self._remove(key)
        gone += (key for key in self._displaced if key not in self._runs)
        self._displaced = []
        return gone

    def get(self, key: RunKey) -> RunInfo:
        """A published run. Raises KeyError."""
        return self._runs[key]

    def has(self, key: RunKey) -> bool:
        """Whether the run exists, open or ended, and was not merged into another one."""
        return key in self._runs and key not in self._merges

    def set_cgroup(self, key: RunKey, cgroup: str) -> None:
        """Store the cgroup of an open run."""
        run = self._runs.get(key)
        if run is not None and run.ended is None and run.cgroup != cgroup:
            self._put(run._replace(cgroup=cgroup))

    def find(self, uid: int | None, run_id: str, job_id: str | None) -> RunInfo | None:
        """Find the open run with this shown id, or else with this run id.

        None for `uid` or `job_id` matches any user or job.
        """
        found = [
            run
            for run in self._runs.values()
            if run_id in (run.shown_id, run.key.run_id)
            and run.ended is None
            and uid in (None, run.key.uid)
            and job_id in (None, run.key.job_id)
        ]
        return min(found, key=lambda run: run.shown_id != run_id, default=None)

    def ended_at(self, uid: int, run_id: str, job_id: str | None) -> float | None:
        """Wall-clock time at which the run with this id was ended explicitly, or None."""
        ends = [
            run.ended
            for run in self._runs.values()
            if run.ended is not None
            and run.end_reason == ENDED
            and run.key.uid == uid
            and run_id in (run.key.run_id, run.shown_id)
            and job_id in (None, run.key.job_id)
        ]
        return max(ends, default=None)

    def is_open(self, key: RunKey | None) -> bool:
        """Whether the run exists and has not ended."""
        run = self._runs.get(key) if key is not None else None
        return run is not None and run.ended is None

    def is_within(self, key: RunKey, outer: RunKey) -> bool:
        """Whether a run is `outer`, or inside it at any depth."""
        around: RunKey | None = key
        while around is not None and around != outer:
            run = self._runs.get(around)
            around = run.enclosing if run is not None else None
        return around is not None

    def running(self) -> Sequence[RunInfo]:
        """The open runs; the same object while no run has changed."""
        if self._running is None:
            self._running = [run for run in self._runs.values() if run.ended is None]
        return self._running

    def innermost_first(self) -> Sequence[RunInfo]:
        """The open runs, each before its enclosing runs; the same object while unchanged."""
        if self._innermost_first is None:
            self._innermost_first = sorted(self.running(), key=self._depth, reverse=True)
        return self._innermost_first

    def visible(self) -> tuple[RunInfo, ...]:
        """All published runs, open ones first; the same object while unchanged."""
        left = {old for old, merge in self._merges.items() if merge.new not in self._successors}
        off_page = self._hidden | self._successors | left
        if self._visible is None or off_page != self._off_page:
            here = (run for run in self._runs.values() if run.key not in off_page)
            self._visible = tuple(sorted(here, key=lambda run: run.ended is not None))
            self._off_page = off_page
        return self._visible

    def pop_changes(self) -> list[RunInfo]:
        """Runs that were opened, reopened, changed, moved or ended since the last call."""
        changed = list(self._changed.values())
        self._changed.clear()
        return changed

    def pop_opened(self) -> list[RunKey]:
        """Runs new to the registry since the last call; the ledger may have their history."""
        opened, self._opened = self._opened, []
        return opened

    def add_stored_run(self, past: RunInfo) -> None:
        """Add the stored history of a run that returned to the page."""
        run = self._runs.get(past.key)
        if run is not None:
            self._put(with_stored_run(run, past))

    def log_results(self, command: LogRun, key: RunKey, mark: ProgressMark) -> RunInfo:
        """Add counts, results and progress to an open run; `mark` is its progress now.

        Result names and unit names beyond 64 each are dropped.
        """
        run = self._runs[key]
        amounts = {unit.name: unit for unit in run.units}
        for name, amount in command.counts:
            known = amounts.get(name) or (
                UnitCount(name, 0.0) if len(amounts) < MAX_NAMES else None
            )
            if known is not None:
                amounts[name] = known._replace(amount=known.amount + amount)
        results = dict(run.logged)
        for name, value in command.values:
            if name in results or len(results) < MAX_NAMES:
                results[name] = value
        progress = run.progress
        if command.done is not None:
            progress = add_mark(progress, command.total, mark)
        run = run._replace(
            units=tuple(amounts.values()), logged=tuple(results.items()), progress=progress
        )
        self._put(run)
        return run

    def _has_room(self, wanted: RunInfo) -> bool:
        """Whether a new run can be published, instead of an ended one if necessary."""
        if wanted.lead_pid:
            of_user = [r for r in self.running() if r.lead_pid and r.key.uid == wanted.key.uid]
            if len(of_user) >= self._max_runs_of_user:
                return False
        return len(self._runs) < self._max_runs or self._make_room()

    def _make_room(self) -> bool:
        """Evict the run that ended first; False if all are open."""
        ended = [
            run
            for run in self._runs.values()
            if run.ended is not None and run.key not in self._merges
        ]
        if not ended:
            return False
        first = min(ended, key=lambda run: run.ended or 0.0).key
        self._remove(first)
        self._displaced.append(first)
        return True

    def _reopened(self, known: RunInfo, wanted: RunInfo) -> RunInfo:
        """A reopened run: counts, results and start time continue."""
        return wanted._replace(
            shown_id=known.shown_id,
            user=wanted.user or known.user,
            started=known.started,
            units=known.units,
            logged=known.logged,
        )

    def _join(self, known: RunInfo, wanted: RunInfo) -> RunInfo:
        """Join an open run, adding missing fields from the new description."""
        run = self._joined(known, wanted)
        if run != known and known.key != OTHER_RUN:
            self._put(run)
            return run
        return known

    def _joined(self, known: RunInfo, wanted: RunInfo) -> RunInfo:
        """A run with its missing fields filled in from another description."""
        return known.filled_from(wanted)._replace(
            labels=tuple(sorted({**dict(wanted.labels), **dict(known.labels)}.items())),
            is_provisional=known.is_provisional and wanted.is_provisional,
        )

    def _put(self, run: RunInfo) -> None:
        self._runs[run.key] = run
        self._changed[run.key] = run
        self._forget_lists()

    def _remove(self, key: RunKey) -> None:
        del self._runs[key]
        self._forget_lists()

    def _forget_lists(self) -> None:
        self._running = self._innermost_first = self._visible = self._unnamed = None

    def _depth(self, run: RunInfo) -> int:
        """Number of open runs that enclose the run."""
        around = run.enclosing
        depth = 0
        while around is not None and self.is_open(around):
            depth += 1
            around = self._runs[around].enclosing
        return depth

    def _fold(self, wanted: RunInfo) -> RunInfo:
        if OTHER_RUN not in self._runs:
            self._put(
                RunInfo(
                    OTHER_RUN, OTHER_RUN_ID, "", "folded", wanted.started, shown_id=OTHER_RUN_ID
                )
            )
            self._opened.append(OTHER_RUN)
        return self._runs[OTHER_RUN]

    def _identify_inner(self, key: RunKey, outer: RunInfo) -> None:
        """Update the runs inside a run that was identified."""
        for run in self.running():
            if run.enclosing == key and run.key != outer.key:
                inner = self._placed(
                    run._replace(enclosing=outer.key, is_provisional=False), outer.key
                )
                self._put(inner)
                self._identify_inner(run.key, inner)

    def _placed(self, run: RunInfo, enclosing: RunKey | None) -> RunInfo:
        """A run with the namespace and the labels (such as the owner) of its enclosing pod."""
        pod = self._runs.get(enclosing) if enclosing is not None else None
        while pod is not None and pod.origin != POD:
            pod = self._runs.get(pod.enclosing) if pod.enclosing is not None else None
        if pod is None:
            return run
        return run._replace(
            namespace=run.namespace or pod.namespace,
            labels=tuple(sorted({**dict(pod.labels), **dict(run.labels)}.items())),
            is_provisional=pod.is_provisional,
        )

    def _shown_id(self, wanted: RunInfo) -> str:
        """The run id, or `id@uid` (`id@namespace` for pods) if that is taken.

        An id is taken by a published run of another user, by a run of the same user with the same
        job id, or reserved.
        """
        key, namespace = wanted.key, wanted.namespace if wanted.origin == POD else ""
        taken = {OTHER_RUN_ID}
        for run in self._runs.values():
            if run.key.uid != key.uid or run.key.job_id == key.job_id:
                taken.add(run.shown_id)
        shown = key.run_id
        while shown in taken:
            shown = f"{shown}@{namespace or key.uid}"
        return shown


def _sum_units(ones: Iterable[UnitCount], others: Iterable[UnitCount]) -> tuple[UnitCount, ...]:
    """Add the unit counts of two runs."""
    amounts = {unit.name: unit for unit in ones}
    for unit in others:
        known = amounts.get(unit.name, UnitCount(unit.name, 0.0))
        amounts[unit.name] = UnitCount(
            unit.name, known.amount + unit.amount, known.base + unit.base
        )
    return tuple(amounts.values())
