"""Which tests have a second try, which seed is used, what is said at the end."""

import os
import re
import subprocess
import sys

import pytest

from tests.conftest import RERUN_ONCE
from tests.real.parts import REPOSITORY
from tests.tally import Tally, report, total

pytestmark = [pytest.mark.real, pytest.mark.beside]
FAILS_ONCE = """
from pathlib import Path
def fails_once(path=Path(__file__).with_name("tried")):
    is_first = not path.exists()
    path.touch()
    assert not is_first
"""
PROPERTY = """
from hypothesis import given, strategies as st
@marked
@given(st.integers())
def test_it(number): pass
"""
HEAD = "import pytest\nmarked = pytest.mark.rerun_once(reason='a rate')\n"


@pytest.fixture
def pytest_of(tmp_path):
    """Runs a file of tests with this repository's settings; its exit code, output and tally."""

    def run(source, *flags, **environment):
        file, tally = tmp_path / "test_it.py", tmp_path / "tally"
        file.write_text(source)
        command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, "-c", str(REPOSITORY / "pyproject.toml"), *flags, str(file)],
            cwd=REPOSITORY,
            env={
                **{k: v for k, v in os.environ.items() if "TEST" not in k},
                "TALLY": str(tally),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr, total(tally)

    return run


def test_a_test_without_the_marker_fails_at_once(pytest_of):
    code, output, tally = pytest_of(FAILS_ONCE + "def test_it(): fails_once()")
    assert (code, tally.twice) == (1, [])
    assert "tests that ran twice: 0" in output


@pytest.mark.parametrize("flags", [[], ["-n", "2"]])
def test_a_marked_one_is_run_once_more_and_counted(pytest_of, flags):
    code, output, tally = pytest_of(
        HEAD + FAILS_ONCE + "@marked\ndef test_it(): fails_once()", *flags
    )
    assert code == 0, output
    assert "tests that ran twice: 1;" in output
    assert [test.rpartition("::")[2] for test in tally.twice] == ["test_it"]


def test_a_marked_one_that_fails_twice_has_failed(pytest_of):
    code, _, tally = pytest_of(HEAD + "@marked\ndef test_it(): assert False")
    assert (code, len(tally.twice)) == (1, 1)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("@pytest.mark.rerun_once\ndef test_it(): pass", "must give a reason"),
        ("@pytest.mark.rerun_once(reason=' ')\ndef test_it(): pass", "must give a reason"),
        ("@pytest.mark.flaky(reruns=3)\ndef test_it(): pass", "flaky gives no reason"),
        ("import random\n@marked\ndef test_it(): pass", "about 'random'"),
        ("@marked\ndef test_it(daemon): daemon.kill()", "about 'kill'"),
        ("@marked\ndef test_it(seeded): pass", "random"),
        (PROPERTY, "random"),
    ],
)
def test_a_marker_that_is_not_allowed_stops_every_run(pytest_of, source, why):
    code, output, _ = pytest_of(HEAD + source, "--collect-only")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert why in output


NEVER = ("chaos", "real/test_kills.py", "real/test_disk.py", "real/test_spoilt_files.py")


def test_no_test_of_kills_disks_spoilt_files_or_chance_has_one(request):
    marked = request.config.stash[RERUN_ONCE]
    assert [test for test in marked if any(each in test for each in NEVER)] == []


DRAWS = {
    "drawn": "def test_it(seeded): print(f'<{seeded.random()}>')",
    "property": (
        "from hypothesis import given, strategies as st\n"
        "@given(st.integers())\ndef test_it(number): print(f'<{number}>')"
    ),
}


@pytest.mark.parametrize("source", DRAWS.values(), ids=DRAWS)
def test_the_printed_seed_repeats_what_was_random(pytest_of, source):
    _, first, _ = pytest_of(source, "-s")
    (seed,) = re.findall(r"TEST_SEED=(\d+)", first)
    _, again, _ = pytest_of(source, "-s", TEST_SEED=seed)
    _, other, _ = pytest_of(source, "-s", TEST_SEED=str(int(seed) + 1))
    drawn = [re.findall(r"<.+>", output) for output in (first, again, other)]
    assert drawn[0]
    assert drawn[0] == drawn[1] != drawn[2]


UNSEEDED = re.compile(
    r"(?<![.\w])random\.(?!Random\b)[a-z]\w*\(|\bRandom\(\)|os\.urandom|\bsecrets\."
)
KEYS = {"tests/real/slurm.py", "tests/conftest.py"}
"""A key for munge, and the seed itself."""


def test_whatever_is_random_is_drawn_from_a_seed():
    files = [path for path in (REPOSITORY / "tests").rglob("*.py") if path.name != "__init__.py"]
    found = {
        f"{path.relative_to(REPOSITORY)}: {match[0]}"
        for path in files
        for match in UNSEEDED.finditer(path.read_text())
        if str(path.relative_to(REPOSITORY)) not in KEYS and path.name != "test_second_tries.py"
    }
    assert found == set()


def test_a_process_that_a_test_leaves_behind_is_an_error_and_is_ended(pytest_of, tmp_path):
    source = (
        "import subprocess, pathlib\n"
        "def test_it():\n"
        "    pid = subprocess.Popen(['sleep', '987']).pid\n"
        "    pathlib.Path(__file__).with_name('pid').write_text(str(pid))\n"
    )
    code, output, _ = pytest_of(source, "-W", "ignore")
    assert code == 1
    assert "sleep 987" in output
    assert not os.path.exists(f"/proc/{(tmp_path / 'pid').read_text()}")


def test_the_sum_of_all_runs_says_what_was_skipped_and_why_in_one_line(tmp_path):
    path = tmp_path / "tally"
    Tally({"no helm": 280}, []).append(path)
    Tally({"no helm": 1, "no engine": 2}, ["a::b"]).append(path)
    assert report(total(path)).splitlines() == [
        "tests skipped: 283; 281 of them: no helm; 2 of them: no engine",
        "tests that ran twice: 1; a::b",
    ]


def test_without_any_skip_and_second_try_the_sum_is_zero(tmp_path):
    assert report(total(tmp_path / "none")).splitlines() == [
        "tests skipped: 0",
        "tests that ran twice: 0",
    ]


def test_skips_are_noted_with_their_reason(pytest_of):
    source = (
        "import pytest\n"
        "@pytest.mark.skipif(True, reason='no helm')\ndef test_one(): pass\n"
        "def test_two(): pytest.skip('no helm')\n"
    )
    _, _, tally = pytest_of(source)
    assert tally.skipped == {"no helm": 2}
