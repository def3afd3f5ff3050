"""Runs requests to sources in a child process, which can be killed when a DNS lookup hangs."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from exporter.convert.sources.base import OUTCOME_STOPPED, FetchResult
from exporter.errors import FetchError
from exporter.model.intensity import IntensityValue

FETCH_TIMEOUT_SECONDS = 30.0
"""The process is killed after this time."""
FETCH_MODULE = "exporter.convert.live"


class FetchProcess:
    """Runs one request at a time, each in a new process; `stop` may be called from any thread."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def run_job(self, job: Mapping[str, Any]) -> Any:
        """Run a job and return its result; both are JSON. Raises FetchError."""
        if self._stopping:
            raise _stopped_error()
        try:
            self._process = subprocess.Popen(  # noqa: S603  this program
                [sys.executable, "-P", "-m", FETCH_MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C for the daemon must not reach it
            )
        except OSError as error:
            raise FetchError(
                "no_process", f"the fetch process could not be started: {error.strerror}"
            ) from None
        with self._process as process:
            if self._stopping:  # `stop` was called before the process was assigned
                process.kill()
            try:
                output, _ = process.communicate(json.dumps(job).encode(), FETCH_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise FetchError(
                    "timeout",
                    f"no response in {FETCH_TIMEOUT_SECONDS:.0f} s; check the network and DNS",
                ) from None
        try:
            answer = json.loads(output)
        except ValueError:
            if self._stopping:
                raise _stopped_error() from None
            raise FetchError(
                "no_process", f"the fetch process exited with status {process.returncode}"
            ) from None
        if "failure" in answer:
            raise FetchError(*answer["failure"])
        return answer["answer"]

    def stop(self) -> None:
        """Abort the request in progress and reject further ones."""
        self._stopping = True
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()


def _stopped_error() -> FetchError:
    return FetchError(OUTCOME_STOPPED, "the exporter is stopping")


def parse_answer(document: Any) -> FetchResult:
    """Decode the result of a fetch job from JSON."""
    values, forecast, *rest = document
    return FetchResult(
        tuple(IntensityValue(*value) for value in values),
        tuple(IntensityValue(*value) for value in forecast),
        *rest,
    )
