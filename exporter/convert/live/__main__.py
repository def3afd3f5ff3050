"""The short-lived process: one job on standard input, one answer on standard output, as JSON."""

import json
import signal
import sys
from typing import Any

from exporter.convert.live.http import detect_cloud_region, fetch_values
from exporter.convert.registry import live_source
from exporter.errors import ConfigError, FetchError

PROCESS_TIMEOUT_SECONDS = 35
"""The end of a process whose daemon died before it."""


def main() -> int:
    """Do the job."""
    signal.alarm(PROCESS_TIMEOUT_SECONDS)
    job = json.load(sys.stdin)
    try:
        said: dict[str, Any] = {"answer": _run_job(job)}
    except FetchError as failure:
        said = {"failure": [failure.outcome, str(failure), failure.retry_after_seconds]}
    except ConfigError as error:
        said = {"failure": ["settings", str(error), 0.0]}
    except Exception as error:  # noqa: BLE001  its text may hold a secret
        said = {"failure": ["defect", f"a defect ({type(error).__name__}); please report it", 0.0]}
    json.dump(said, sys.stdout)
    return 0


def _run_job(job: dict[str, Any]) -> Any:
    if "locate" in job:
        return detect_cloud_region(job["locate"])
    source = live_source(job["name"], job["options"], "convert.sources")
    return fetch_values(source, job["now"], job["since"])


if __name__ == "__main__":
    sys.exit(main())
