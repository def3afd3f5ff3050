"""Fuzz targets, each in a process of its own: `python -m tests.fuzz.run [TARGET...]`.

Inputs are guided by coverage where `.ci/setup fuzz` could install atheris, and random mutations of
the corpus elsewhere. The exit code is 1 if a target crashed; the inputs are in build/fuzz/TARGET.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.targets import TARGETS
from tests.fuzz.worker import CURRENT, SUMMARY, input_of_dead_worker

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "fuzz"
ENVIRONMENT = BUILD / "environment"
GRACE_SECONDS = 300
"""For a worker to start, whose modules atheris instruments, and to finish its last input on a busy
machine."""


def main() -> int:
    """Print the result of each target; return the exit code."""
    options = _options()
    is_guided = (ENVIRONMENT / ".installed").exists()
    _say("guided by coverage" if is_guided else "random mutations; without atheris")
    names = options.targets or list(TARGETS)
    with ThreadPoolExecutor(options.jobs) as executor:
        results = list(
            executor.map(lambda name: _fuzz(name, options.seconds, is_guided=is_guided), names)
        )
    executions, crashes = map(sum, zip(*results, strict=True))
    _say(f"{len(names)} targets: {executions} executions, {crashes} crashes")
    return 1 if crashes else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=120, help="Seconds for each target.")
    parser.add_argument("--jobs", type=int, default=1, help="Targets at the same time.")
    options = parser.parse_args()
    if unknown := set(options.targets) - TARGETS.keys():
        parser.error(f"unknown target {min(unknown)}; known targets: {', '.join(TARGETS)}")
    return options


def _fuzz(name: str, seconds: float, *, is_guided: bool) -> tuple[int, int]:
    """Fuzz one target; return the numbers of executions and of different crashes."""
    directory = BUILD / name
    for file in (SUMMARY, CURRENT):
        (directory / file).unlink(missing_ok=True)
    python, module = (
        (str(ENVIRONMENT / "bin" / "python"), "guided")
        if is_guided
        else (sys.executable, "unguided")
    )
    command = [python, "-m", f"tests.fuzz.{module}", name, str(seconds), str(directory)]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds + GRACE_SECONDS,
            check=False,
        )
        end, output = f"exit status {done.returncode}", done.stdout
    except subprocess.TimeoutExpired as error:
        end, output = "no end; killed", error.stdout or b""
    if not (directory / SUMMARY).exists():
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "crash-of-process").write_bytes(input_of_dead_worker(directory))
        text = output.decode("utf-8", "replace")[-4000:]
        _say(f"{name}: {end}; input: {directory / 'crash-of-process'}\n{text}")
        return 0, 1
    summary = json.loads((directory / SUMMARY).read_text(encoding="utf-8"))
    crashes = summary["crashes"]
    _say(f"{name}: {summary['executions']} executions, {len(crashes)} crashes")
    for crash in crashes:
        path = directory / crash["data"]
        _say(f"{name}: {crash['error']} at {crash['place']}; input: {path}\n{crash['traceback']}")
    return summary["executions"], len(crashes)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
