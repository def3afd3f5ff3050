"""An agent socket whose answers a test sets, served by a thread; commands that come from one."""

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from exporter.model.commands import StartRun
from exporter.model.runs import REGISTERED, RunInfo, RunKey

Answer = tuple[int, Any]


class Answers:
    """What the socket answers, and what it was asked: method, path, document."""

    def __init__(self, answer: Any = None, status: int = 200) -> None:
        self.path = ""
        self.asked: list[tuple[str, str, Any]] = []
        self.decide: Callable[[str, str, Any], Answer] = lambda *_: (status, answer)

    def say(self, answer: Any, status: int = 200) -> None:
        """Answer this from now on; bytes are sent as they are."""
        self.decide = lambda *_: (status, answer)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = True


@contextmanager
def serving(path: str, answers: Answers) -> Iterator[Answers]:
    """Serve at `path` until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            document = json.loads(self.rfile.read(length) or b"null")
            answers.asked.append((self.command, self.path, document))
            status, answer = answers.decide(self.command, self.path, document)
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  the name that is looked for

        def log_message(self, *_: Any) -> None:
            """Nothing is logged."""

    answers.path = path
    with _Server(path, Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.005,))
        thread.start()
        try:
            yield answers
        finally:
            server.shutdown()
            thread.join()


def start_run(
    uid: int, user: str, pid: int, run_id: str, job_id: str = "", **fields: Any
) -> StartRun:
    """The command of a process that starts a run, as the agent socket makes it."""
    run = RunInfo(RunKey(uid, run_id, job_id), "", user, REGISTERED, started=0.0)
    return StartRun(pid, run._replace(**fields))
