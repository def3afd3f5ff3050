"""A daemon of the user's own, started where there is none; all trackers of the user share it."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

from exporter.client.environment import JOB_ID_VARIABLES, RUN_ID_VARIABLES, TRACKED_RUN_ID_VARIABLE
from exporter.client.errors import AgentUnreachable
from exporter.client.sockets import untrusted_reason, user_socket

EXIT_WHEN_IDLE_SECONDS = 30
START_TIMEOUT_SECONDS = 15.0
POLL_INTERVAL_SECONDS = 0.05
MOST_LOG_BYTES = 1000
OTHERS_SECONDS = 3.0
"""For another program's daemon to listen, after ours ended: one of two started at once ends."""
BACKGROUND_SCRIPT = '"$@" </dev/null >/dev/null &'
"""For sh: then init is its parent, so it is no part of the run that is about to begin."""
STATE_DIRECTORY_VARIABLE = "EMISSIONS_EXPORTER_ACCOUNT_STATE_DIRECTORY"
REMOVED_VARIABLES = (
    *RUN_ID_VARIABLES,
    *JOB_ID_VARIABLES,
    TRACKED_RUN_ID_VARIABLE,
    "EMISSIONS_RUN_NAME",
    "EMISSIONS_LABELS",
)
"""A daemon that had them would take the whole machine for that run."""


def start_private_daemon(environment: Mapping[str, str]) -> str:
    """Start one, and wait until it listens; where another one is first, that one. Its socket.

    Raises AgentUnreachable with the place of its log.
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
        if why := untrusted_reason(path):
            raise AgentUnreachable(f"no daemon of your own is started: {why}")
        alive = _begin(command, _daemon_environment(environment), log)
    except (OSError, subprocess.CalledProcessError) as error:
        raise AgentUnreachable(f"a daemon of your own cannot be started: {error}") from None
    try:
        _await(path, alive, log)
    finally:
        os.close(alive)
    return path


def _begin(command: list[str], environment: dict[str, str], log: str) -> int:
    """Start the daemon; the read end of a pipe that reaches its end when the daemon has ended."""
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
                f"the daemon started for you does not answer; see {log}"
                + (f", which ends: {last}" if last else "")
            )
        time.sleep(POLL_INTERVAL_SECONDS)


def _last_line(log: str) -> str:
    """Why a daemon ended, as far as one line of its log says it."""
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
    if os.geteuid() == 0:  # the system's own daemon may come back, and needs its ledger
        ours.setdefault(STATE_DIRECTORY_VARIABLE, home_state_directory())
    return ours


def home_state_directory() -> str:
    """Where such a daemon of root keeps its totals, and that of anyone without XDG_STATE_HOME."""
    return os.path.expanduser("~/.local/state/emissions-exporter")


def _is_listening(path: str) -> bool:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
        return True
