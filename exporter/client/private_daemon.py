"""Private daemon: started by a tracker if none answers, and shared by all trackers of the user."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

from exporter.client.environment import JOB_ID_VARIABLES, RUN_ID_VARIABLES, TRACKED_RUN_ID_VARIABLE
from exporter.client.errors import AgentUnreachable
from exporter.client.sockets import connect, untrusted_reason, user_socket

EXIT_WHEN_IDLE_SECONDS = 30
START_TIMEOUT_SECONDS = 15.0
POLL_INTERVAL_SECONDS = 0.05
PROBE_SECONDS = 1.0
MOST_LOG_BYTES = 1000
OTHERS_SECONDS = 3.0
"""Timeout for another program's daemon, after ours exited: of two started at once, one exits."""
BACKGROUND_SCRIPT = '"$@" </dev/null >/dev/null &'
"""Script for sh that reparents the daemon to init, so that it is not part of the run."""
STATE_DIRECTORY_VARIABLE = "EMISSIONS_EXPORTER_ACCOUNT_STATE_DIRECTORY"
REMOVED_VARIABLES = (
    *RUN_ID_VARIABLES,
    *JOB_ID_VARIABLES,
    TRACKED_RUN_ID_VARIABLE,
    "EMISSIONS_RUN_NAME",
    "EMISSIONS_LABELS",
)
"""Variables not passed to the daemon, which would charge the whole machine to that run."""


def start_private_daemon(environment: Mapping[str, str]) -> str:
    """Start a private daemon, or wait for one that starts at the same time; return its socket.

    Raises AgentUnreachable with the path of its log.
    """
    path = user_socket()
    log = f"{os.path.dirname(path)}/daemon.log"
    command = [
        *(sys.executable, "-m", "exporter", "serve"),
        *("--web.listen-address=none", f"--socket.path={path}"),
        f"--exit-when-idle={EXIT_WHEN_IDLE_SECONDS}",
    ]
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        if reason := untrusted_reason(path):
            raise AgentUnreachable(f"private daemon not started: {reason}")
        alive = _begin(command, _daemon_environment(environment), log)
    except (OSError, subprocess.CalledProcessError) as error:
        raise AgentUnreachable(f"private daemon cannot be started: {error}") from None
    try:
        _await(path, alive, log)
    finally:
        os.close(alive)
    return path


def _begin(command: list[str], environment: dict[str, str], log: str) -> int:
    """Start the daemon; return the read end of a pipe that reaches EOF when the daemon exits."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    alive, inherited = os.pipe()
    try:
        subprocess.run(  # noqa: S603  our own program
            ["sh", "-c", BACKGROUND_SCRIPT, "sh", *command],  # noqa: S607
            env=environment,
            cwd="/",
            stderr=file,
            pass_fds=(inherited,),
            start_new_session=True,
            check=True,
        )
    except BaseException:
        os.close(alive)
        raise
    finally:
        os.close(inherited)
        os.close(file)
    return alive


def _await(path: str, alive: int, log: str) -> None:
    """Wait until a daemon listens. Raises AgentUnreachable."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    has_ended = False
    while not _is_listening(path):
        if not has_ended and select.select([alive], [], [], 0)[0]:
            has_ended = True
            deadline = min(deadline, time.monotonic() + OTHERS_SECONDS)
        if time.monotonic() > deadline:
            last = _last_line(log) if has_ended else ""
            raise AgentUnreachable(
                f"the private daemon does not answer; see its log, {log}"
                + (f"; last line: {last}" if last else "")
            )
        time.sleep(POLL_INTERVAL_SECONDS)


def _last_line(log: str) -> str:
    """Return the last line of a daemon's log, which usually has the reason of its exit."""
    with suppress(OSError), open(log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - MOST_LOG_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
        return lines[-1].strip() if lines else ""
    return ""


def _daemon_environment(environment: Mapping[str, str]) -> dict[str, str]:
    ours = {
        name: value
        for name, value in environment.items()
        if name not in REMOVED_VARIABLES and not name.startswith("SLURM_")
    }
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    ours["PYTHONPATH"] = os.pathsep.join(filter(None, (package, ours.get("PYTHONPATH", ""))))
    if os.geteuid() == 0:  # the system's daemon may be started again, and locks its ledger
        ours.setdefault(STATE_DIRECTORY_VARIABLE, home_state_directory())
    return ours


def home_state_directory() -> str:
    """Return the state directory of root's private daemon, and of users without XDG_STATE_HOME."""
    return os.path.expanduser("~/.local/state/emissions-exporter")


def _is_listening(path: str) -> bool:
    with suppress(OSError):
        connect(path, PROBE_SECONDS).close()
        return True
    return False
