"""How often tests run: the examples of a property, the second try of a few, the seed of chance.

`make` tries a property with few examples, CI with all.

A test that fails has failed. One whose subject is a wall-clock rate on a machine that others use
as well may be marked `rerun_once(reason="...")`; nothing else may (`forbidden`).

Everything random is drawn from one seed, which is printed at the end: TEST_SEED=... repeats it.
"""

import contextlib
import os
import random
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.tally import Tally

with contextlib.suppress(ModuleNotFoundError):  # not in the environments of tests/ml
    from hypothesis import settings

    # How long an example takes says nothing where tests share two cores. In CI, which hypothesis
    # recognizes by the environment, examples are drawn from TEST_SEED too.
    common = settings(deadline=None, print_blob=True, derandomize=False)
    settings.register_profile("default", common)
    settings.register_profile("few", common, max_examples=15, stateful_step_count=20)
    settings.load_profile("default")

NEVER_TWICE = re.compile(r"\brandom|seeded|kill|full disk|damage|spoil|CHAOS", re.IGNORECASE)
"""In the source of a module: what it tests may go wrong once and matter."""


RERUN_ONCE = pytest.StashKey[list[str]]()
"""All tests that have a second try, also those that are not selected."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.stash[RERUN_ONCE] = []
    # What a script starts in the background ignores SIGINT, and so would all that tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Workers of pytest-xdist inherit the environment, and so the seed.
    seed = os.environ.setdefault("TEST_SEED", str(random.SystemRandom().randrange(1 << 32)))
    if config.pluginmanager.hasplugin("hypothesispytest") and not config.option.hypothesis_seed:
        config.option.hypothesis_seed = seed


@pytest.fixture(scope="module")
def seeded(request: pytest.FixtureRequest) -> random.Random:
    """Chance: the same for the same test or module and TEST_SEED."""
    return random.Random(f"{os.environ['TEST_SEED']} {request.node.nodeid}")


@pytest.hookimpl(tryfirst=True)  # before any is deselected
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("flaky"):
            raise pytest.UsageError(f"{item.nodeid}: flaky gives no reason; use rerun_once")
        if marked := item.get_closest_marker("rerun_once"):
            if why := forbidden(item, marked.kwargs.get("reason")):
                raise pytest.UsageError(f"{item.nodeid}: rerun_once {why}")
            item.add_marker(pytest.mark.flaky(reruns=1))
            item.config.stash[RERUN_ONCE].append(item.nodeid)


def forbidden(item: pytest.Item, reason: object) -> str:
    """Why a test may have no second try; "": it may."""
    if not isinstance(reason, str) or not reason.strip():
        return "must give a reason"
    is_property = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    if is_property or "seeded" in getattr(item, "fixturenames", ()):
        return "is not for what is random"
    if found := NEVER_TWICE.search(item.path.read_text()):
        return f"is not for a module that is about {found[0]!r}"
    return ""


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say which tests ran twice and by which seed; note it and what was skipped for a sum."""
    stats = terminalreporter.stats
    twice = [report.nodeid for report in stats.get("rerun", [])]
    terminalreporter.line(
        f"tests that ran twice: {len(twice)}; TEST_SEED={os.environ['TEST_SEED']}"
    )
    for test in twice:
        terminalreporter.line(f"  {test}")
    skipped = Counter(
        report.longrepr[2].removeprefix("Skipped: ") for report in stats.get("skipped", [])
    )
    is_worker = hasattr(config, "workerinput")  # of pytest-xdist: the other end knows all
    if (path := os.environ.get("TALLY")) and not is_worker:
        Tally(dict(skipped), twice).append(Path(path))


@pytest.fixture(scope="session", autouse=True)
def nothing_left_running() -> Iterator[None]:
    """A process that tests left behind is ended, and is an error of the last of them."""
    yield
    left = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            command = " ".join(process.cmdline())
            if process.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in command:
                left.append(f"{process.pid}: {command}")
                process.kill()
                process.wait(10)
    assert left == [], "still running at the end"
