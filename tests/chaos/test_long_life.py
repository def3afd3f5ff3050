"""400 days of a node with 200 runs a day: what its ledger keeps is bounded, and answers are cheap.

The runs begin and end in simulated minutes; the questions are asked of a real daemon.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import pytest

from exporter.units import SECONDS_PER_DAY, SECONDS_PER_HOUR
from tests.chaos.long_life import START, Node
from tests.real.parts import Daemon, get

pytestmark = pytest.mark.soak
DAYS = int(os.environ.get("SOAK_DAYS", "400"))
RUNS_PER_DAY = 200
KEEP_MINUTES_DAYS, KEEP_HOURS_DAYS = 35, 200
MOST_BYTES_OF_RUN = 600
"""What the ledger keeps of a run forever: its row, totals, factors, labels, units and results."""
FLOOR_NUMBERS = 50_000
"""Numbers that are converted to text and sorted: 3.7 ms where an answer may take 0.1 s."""
MOST_FLOORS, MOST_FLOORS_OF_ALL = 27, 270
ASKED = 5


class Kept(NamedTuple):
    """What is kept at some day."""

    runs: int
    minutes: int
    hours: int
    accounts: int
    ledger_bytes: int


class Aged(NamedTuple):
    """A node after its life, and a daemon that continues it."""

    after: dict[int, Kept]
    """By day."""
    names: list[str]
    daemon: Daemon


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aged]:
    root = tmp_path_factory.mktemp("aged")
    state = root / "daemon" / "state"
    state.mkdir(parents=True)
    after: dict[int, Kept] = {}
    with closing(Node(state, RUNS_PER_DAY, KEEP_MINUTES_DAYS, KEEP_HOURS_DAYS)) as node:
        for until in (DAYS // 10, DAYS * 6 // 10, DAYS):
            node.pass_days(until - max(after, default=0))
            after[until] = Kept(
                len(node.names),
                node.rows("usage"),
                node.rows("usage_hour"),
                node.accounts,
                node.ledger_bytes,
            )
            sys.stderr.write(f"day {until}: {after[until]}\n")
    (root / "sys").mkdir()
    with ExitStack() as ends:
        daemon = Daemon(root / "daemon", f"--path.sysfs={root / 'sys'}")
        ends.callback(daemon.stop)
        yield Aged(after, node.names, daemon.start())


def test_usage_over_time_is_kept_as_long_as_configured(aged: Aged) -> None:
    middle, last = aged.after[DAYS * 6 // 10], aged.after[DAYS]
    assert last.minutes <= aged.after[DAYS // 10].minutes * 1.05
    assert last.hours <= middle.hours * 1.05


def test_books_hold_no_run_that_has_departed(aged: Aged) -> None:
    assert aged.after[DAYS].accounts <= aged.after[DAYS // 10].accounts * 1.5


def test_each_run_adds_a_bounded_number_of_bytes_to_the_ledger(aged: Aged) -> None:
    middle, last = aged.after[DAYS * 6 // 10], aged.after[DAYS]
    added = last.ledger_bytes - middle.ledger_bytes
    assert added / (last.runs - middle.runs) < MOST_BYTES_OF_RUN


QUESTIONS = {
    "runs": "/api/v1/runs",
    "runs of a user": "/api/v1/runs?user=user-3",
    "runs of a group": "/api/v1/runs?group=group-7",
    "runs of an account": "/api/v1/runs?account=account-2",
    "page of all runs": "/runs",
    "first run": "/api/v1/runs/{first}",
    "last run": "/api/v1/runs/{last}",
    "report of the last run": "/runs/{last}/receipt?form=text",
    "page of a run": "/runs/{last}",
    "minutes of the last run": "/api/v1/runs/{last}/series?since={hours}&until={end}",
    "hours of the first run": "/api/v1/runs/{first}/series?since={start}&until={end}",
    "page of the node": "/",
    "a thousand runs": "/api/v1/runs?limit=1000",
    "runs of a name": "/api/v1/runs?name=training-7",
    "sums of a month by user": "/api/v1/runs?by=user&since={month}",
    "sums of a month by group": "/api/v1/runs?by=group&since={month}",
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_takes_little_cpu_time(aged: Aged, question: str) -> None:
    end = START + DAYS * SECONDS_PER_DAY
    path = QUESTIONS[question].format(
        first=aged.names[0],
        last=aged.names[-1],
        start=START,
        month=end - 30 * SECONDS_PER_DAY,
        hours=end - 2 * SECONDS_PER_HOUR,
        end=end,
    )
    assert cost_seconds(aged.daemon, path) < MOST_FLOORS * floor_seconds()


@pytest.mark.parametrize("by", ["user", "group", "account"])
def test_the_sums_of_all_runs_take_no_more_than_ten_times_that(aged: Aged, by: str) -> None:
    cost = cost_seconds(aged.daemon, f"/api/v1/runs?by={by}")
    assert cost < MOST_FLOORS_OF_ALL * floor_seconds()


def floor_seconds() -> float:
    """Return the least CPU time of a fixed piece of work, which shows the speed of the machine."""
    costs = []
    for _ in range(ASKED):
        before = time.process_time()
        sorted(str(number) for number in range(FLOOR_NUMBERS))
        costs.append(time.process_time() - before)
    return min(costs)


def cost_seconds(daemon: Daemon, path: str) -> float:
    """Return the least CPU time that an answer took, and print it."""
    assert daemon.process is not None
    costs = []
    for _ in range(ASKED):
        before = cpu_seconds(daemon.process.pid)
        get(daemon.url + path)
        costs.append(cpu_seconds(daemon.process.pid) - before)
    sys.stderr.write(f"{path}: {min(costs) * 1000:.1f} ms\n")
    return min(costs)


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process so far; the daemon's own ticks are part of it."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
