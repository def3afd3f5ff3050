"""`track`: the energy and emissions of a piece of a program, with two lines."""

import atexit
import functools
import os
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypeVar

from exporter.client.errors import AgentRefusal, AgentUnreachable, BudgetExceeded, NotMeasured
from exporter.client.launch import TRACKED, launch_of
from exporter.client.reporter import TROUBLE, Reporter
from exporter.client.run import Run
from exporter.client.sockets import named_socket
from exporter.client.words import warn

RUN_ID, JOB_ID = "EMISSIONS_RUN_ID", "EMISSIONS_JOB_ID"
OnBudget: TypeAlias = Literal["warn", "raise"] | Callable[[Run], None]
F = TypeVar("F", bound=Callable[..., Any])


class track:  # noqa: N801  reads as the verb it is
    """Measure what runs in it: `with track("bert"):`, `@track("bert")`, or `start()` and `stop()`.

    The node's daemon is asked, else the user's own, else one is started (`private`). All ranks of
    one launch are one run, and so are all programs that are given one `run_id`; a run inside
    another is counted apart from it. The program is never stopped or slowed: what goes wrong is
    said in the log `emissions`. Only `strict` raises NotMeasured at the start, and
    `on_budget="raise"` raises BudgetExceeded, in the program's own calls of `run`.
    """

    _open: ClassVar[list["track"]] = []

    def __init__(
        self,
        name: str = "",
        *,
        run_id: str = "",
        job_id: str = "",
        labels: Mapping[str, str] | None = None,
        group: str = "",
        scope: Literal["tree", "cgroup", "machine"] = "tree",
        budget_grams: float | None = None,
        on_budget: OnBudget = "warn",
        progress: bool | None = None,
        receipts: str | None = "emissions",
        interval_seconds: float = 5.0,
        socket: str = "",
        private: bool = True,
        strict: bool = False,
    ) -> None:
        """`group` is a label that the runs of a sweep share; `scope` says what belongs to the run.

        `progress` shows a line on the terminal; None: if there is one. A receipt is written into
        the directory `receipts` each minute and at the end; None: not.
        """
        self._asked: dict[str, Any] = {
            "run_id": run_id,
            "job_id": job_id,
            "name": name,
            "labels": {**(labels or {}), **({"group": group} if group else {})},
            "scope": scope,
            "budget_grams": budget_grams,
        }
        self._on_budget = on_budget
        self._progress = progress
        self._receipts = receipts
        self._interval = interval_seconds
        self._socket = socket
        self._private = private
        self._strict = strict
        self._warned = False
        self._pid = 0
        self._is_joined = False
        self._before: dict[str, str | None] = {}
        self._reporter: Reporter | None = None
        self.run = Run()

    def __enter__(self) -> Run:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if kind is None:
            self.run.check_budget()

    def __call__(self, function: F) -> F:
        """As a decorator: each call is a run of its own."""
        import inspect

        @functools.wraps(function)
        def tracked(*args: Any, **kwargs: Any) -> Any:
            with self._anew(function.__name__):
                return function(*args, **kwargs)

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            with self._anew(function.__name__):
                return await function(*args, **kwargs)

        return awaited if inspect.iscoroutinefunction(function) else tracked  # type: ignore[return-value]

    def start(self) -> Run:
        """Begin the run, unless it has begun. Raises NotMeasured if that was asked for."""
        if self._pid:
            return self.run
        self._pid = os.getpid()
        launch = launch_of(os.environ, str(self._asked["name"]))
        self._launch = launch
        self._asked["run_id"] = self._asked["run_id"] or launch.run_id
        self._asked["job_id"] = self._asked["job_id"] or launch.job_id
        self._asked["nodes"] = launch.nodes
        self.run = Run()
        try:
            self._register()
        except TROUBLE as error:
            self._pid = 0
            if self._strict:
                raise NotMeasured(f"not measured: {error}") from error
            warn("not measured, the program goes on: %s", error)
            return self.run
        self._follow()
        self._open.append(self)
        return self.run

    def stop(self) -> Run:
        """End the run, if it is open, and wait for its last record."""
        reporter = self._reporter
        if reporter is None:
            return self.run
        if self._is_joined or os.getpid() != self._pid:  # the run is that of another process
            reporter.look()
            return self.run
        atexit.unregister(self.stop)
        self._reporter = None
        reporter.stop()
        reporter.look()
        if self in self._open:
            self._open.remove(self)
        self._restore_environment()
        self._end(reporter)
        self._pid = 0
        return self.run

    @classmethod
    def current(cls) -> Run:
        """The innermost run of this program, or of the one that spawned it; else one of no effect.

        What a run of another process is told here is sent, but only that one ends it.
        """
        if cls._open:
            return cls._open[-1].run
        run_id = os.environ.get(RUN_ID, "")
        if not run_id or os.environ.get(TRACKED) != run_id:
            return Run()
        joined = cls(receipts=None, progress=False)
        joined.run = Run(run_id, os.environ.get(JOB_ID, ""))
        joined.run.is_measured = joined._is_joined = True
        joined._follow()
        cls._open.append(joined)
        return joined.run

    def _anew(self, name: str) -> Self:
        """Another tracker like this, for one call."""
        other = object.__new__(type(self))
        other.__dict__ = dict(self.__dict__)
        other._asked = {**self._asked, "name": self._asked["name"] or name}
        other.run = Run()
        return other

    def _register(self) -> None:
        """Begin the run with a daemon, or begin it again. Raises one of TROUBLE."""
        from exporter.client.agent import Agent
        from exporter.client.patience import FOLDED, start

        def begin() -> dict[str, Any]:
            return start(lambda: Agent(self._socket).start(**self._asked))

        try:
            record = begin()
        except AgentUnreachable:
            if not self._private or named_socket(self._socket):
                raise
            from exporter.client import private

            private.start(os.environ)
            record = begin()
        except AgentRefusal as refusal:
            if self._asked["scope"] != "machine":
                raise
            warn("scope machine was refused, scope tree is taken: %s", refusal)
            self._asked["scope"] = "tree"
            record = begin()
        if record["run_id"] == FOLDED:
            raise AgentUnreachable(
                "the daemon shows as many runs as it may (attribute.max_runs); this one is counted "
                f"in `{FOLDED}` and has no numbers of its own"
            )
        self._asked["run_id"] = self.run.run_id = record["run_id"]
        self._asked["job_id"] = self.run.job_id = record["job_id"]
        self.run.record, self.run.is_measured = record, True

    def _follow(self) -> None:
        """Keep the run's record from now on."""
        self._pid = self._pid or os.getpid()
        launch = launch_of(os.environ, "")
        is_first = launch.rank == 0
        title = str(self._asked["name"]) or self.run.run_id
        reporter = self._reporter = Reporter(
            self.run,
            say=self._say,
            begin_again=self._begin_again,
            on_record=self._check_budget if is_first else lambda: None,
            receipts=self._receipts if launch.local_rank == 0 else None,
            interval_seconds=self._interval,
            title=title,
            has_line=is_first
            and (sys.stderr.isatty() if self._progress is None else self._progress),
        )
        self.run.wake = reporter.start
        reporter.start()
        atexit.register(self.stop)
        if not self._is_joined:
            ids = {RUN_ID: self.run.run_id, TRACKED: self.run.run_id, JOB_ID: self.run.job_id}
            self._before = {name: os.environ.get(name) for name in ids}
            os.environ.update({name: value for name, value in ids.items() if value})

    def _begin_again(self) -> None:
        """The daemon knows the run no more: who began it, begins it again."""
        if not self._is_joined and os.getpid() == self._pid:
            self._register()

    def _say(self, said: dict[str, Any]) -> dict[str, Any]:
        from exporter.client.agent import Agent

        agent = Agent(self._socket)
        if said:
            return agent.log(self.run.run_id, self.run.job_id, **said)
        return agent.run(self.run.run_id, self.run.job_id)

    def _check_budget(self) -> None:
        """Act, once, when the run has emitted more than it was to."""
        budget, grams = self._asked["budget_grams"], self.run.emissions_grams
        if self._warned or budget is None or not grams > budget:
            return
        self._warned = True
        text = f"run {self.run.run_id} has emitted {grams:.4g} g CO2eq of a budget of {budget:g} g"
        if self._on_budget == "raise":
            self.run.over_budget = BudgetExceeded(text)
        elif callable(self._on_budget):
            self._on_budget(self.run)
        else:
            warn("%s", text)

    def _end(self, reporter: Reporter) -> None:
        from exporter.client.agent import Agent
        from exporter.client.patience import end

        is_shared = any(
            (other.run.run_id, other.run.job_id) == (self.run.run_id, self.run.job_id)
            for other in self._open
        )
        if is_shared:  # an outer tracker of this program has the same run
            return
        try:
            self.run.record = end(Agent(self._socket), self.run.run_id, self.run.job_id)
        except TROUBLE as error:
            warn(
                "the last numbers of run %s are missing: %s; later: emissions-exporter report %s",
                *(self.run.run_id, error, self.run.run_id),
            )
        if launch_of(os.environ, "").rank == 0:
            self._check_budget()
        reporter.write_receipt()

    def _restore_environment(self) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._before = {}


def current_run() -> Run:
    """The innermost run of this program, or of the one that spawned it; else one of no effect."""
    return track.current()
