"""Fetch process: reads one job from standard input, writes its result to standard output (JSON)."""

import json
import signal
import sys
from typing import Any

from exporter.convert.live.http import detect_cloud_region, fetch_values
from exporter.convert.registry import live_source
from exporter.errors import ConfigError, FetchError

PROCESS_TIMEOUT_SECONDS = 35
"""Ends the process by itself if its daemon has died."""


def main() -> int:
    """Run the job and write its result; return the exit code."""
    signal.alarm(PROCESS_TIMEOUT_SECONDS)
    job = json.load(sys.stdin)
    try:
        result: dict[str, Any] = {"answer": _run_job(job)}
    except FetchError as failure:
        result = {"failure": [failure.outcome, str(failure), failure.retry_after_seconds]}
    except ConfigError as error:
        result = {"failure": ["settings", str(error), 0.0]}
    except Exception as error:  # noqa: BLE001  its text may contain a secret
        text = f"a defect ({type(error).__name__}); please report it"
        result = {"failure": ["defect", text, 0.0]}
    json.dump(result, sys.stdout)
    return 0


def _run_job(job: dict[str, Any]) -> Any:
    if "locate" in job:
        return detect_cloud_region(job["locate"])
    source = live_source(job["name"], job["options"], "convert.sources")
    return fetch_values(source, job["now"], job["since"])


if __name__ == "__main__":
    sys.exit(main())
