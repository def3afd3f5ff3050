"""Asks a source in a process of its own, which can be killed when a look-up hangs."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from exporter.convert.sources.base import OUTCOME_STOPPED, FetchResult
from exporter.errors import FetchError
from exporter.model.intensity import IntensityValue

FETCH_TIMEOUT_SECONDS = 30.0
"""After it the process is killed."""
FETCH_MODULE = "exporter.convert.live"


class FetchProcess:
    """One request at a time, each in a new process; `stop` may be called from any thread."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def run_job(self, job: Mapping[str, Any]) -> Any:
        """The child's answer to a job, which is JSON as well. Raises FetchFailed."""
        if self._stopping:
            raise _stopped_error()
        try:
            self._process = subprocess.Popen(  # noqa: S603  this program
                [sys.executable, "-P", "-m", FETCH_MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a key that is pressed for the daemon is not for it
            )
        except OSError as error:
            raise FetchError(
                "no_process", f"no process can be started to ask with: {error.strerror}"
            ) from None
        with self._process as process:
            if self._stopping:  # `stop` came before there was anything to end
                process.kill()
            try:
                said, _ = process.communicate(json.dumps(job).encode(), FETCH_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise FetchError(
                    "timeout",
                    f"no answer in {FETCH_TIMEOUT_SECONDS:.0f} s; is the network up, and DNS?",
                ) from None
        try:
            answer = json.loads(said)
        except ValueError:
            if self._stopping:
                raise _stopped_error() from None
            raise FetchError(
                "no_process", f"the process that asks ended with status {process.returncode}"
            ) from None
        if "failure" in answer:
            raise FetchError(*answer["failure"])
        return answer["answer"]

    def stop(self) -> None:
        """End the request under way, and refuse others."""
        self._stopping = True
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()


def _stopped_error() -> FetchError:
    return FetchError(OUTCOME_STOPPED, "the exporter is stopping")


def parse_answer(document: Any) -> FetchResult:
    """The answer that a child spelled as JSON."""
    found, forecast, *rest = document
    return FetchResult(
        tuple(IntensityValue(*value) for value in found),
        tuple(IntensityValue(*value) for value in forecast),
        *rest,
    )
