"""Programs that fork, exit and handle signals at bad moments; daemons that hang; hostile links."""

import contextlib
import os
import socket
import threading

import pytest

from exporter.client import agent_client
from exporter.client.agent_client import HANGING_TIMEOUT_SECONDS, TIMEOUT_SECONDS, AgentClient
from exporter.client.atomic_file import replace_file
from exporter.client.errors import AgentUnreachable
from exporter.client.receipts import write_receipt
from exporter.client.sockets import connect
from tests.agents import Answers, serving

RECORD = {"run_id": "bert", "job_id": "", "node": "n1"}


@pytest.fixture
def full(tmp_path):
    """A socket on which a program listens whose queue of connections is full."""
    with contextlib.ExitStack() as held:
        listener = held.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(tmp_path / "full.sock"))
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting = held.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(listener.getsockname())
        yield listener


def test_a_client_waits_for_a_place_in_a_full_queue(full):
    connected = []

    def wait():
        with connect(full.getsockname(), 60):
            connected.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    full.settimeout(0.05)
    while not connected:
        with contextlib.suppress(TimeoutError):
            full.accept()[0].close()
    thread.join()


def test_a_queue_that_stays_full_is_a_timeout(full):
    with pytest.raises(TimeoutError, match="queue of connections is full"):
        connect(full.getsockname(), 0.05)
    with pytest.raises(AgentUnreachable, match="queue of connections is full"):
        AgentClient(full.getsockname(), 0.05).run("bert")


def test_a_daemon_that_hangs_costs_the_whole_timeout_once(monkeypatch, tmp_path):
    path, timeouts = str(tmp_path / "agent.sock"), []

    class Connection(agent_client.UnixConnection):
        def __init__(self, path, timeout_seconds):
            super().__init__(path, timeout_seconds)
            timeouts.append(timeout_seconds)

        def connect(self):
            if len(timeouts) <= 3:
                raise TimeoutError("timed out")
            super().connect()

    monkeypatch.setattr(agent_client, "UnixConnection", Connection)
    for _ in range(3):
        with pytest.raises(AgentUnreachable):
            AgentClient(path).run("bert")
    with serving(path, Answers(RECORD)):
        for _ in range(2):
            AgentClient(path).run("bert")
    short = HANGING_TIMEOUT_SECONDS
    assert timeouts == [TIMEOUT_SECONDS, short, short, short, TIMEOUT_SECONDS]


def test_a_daemon_that_accepts_and_is_silent_is_a_timeout(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "silent.sock"))
        listener.listen()
        with pytest.raises(AgentUnreachable, match="timed out"):
            AgentClient(listener.getsockname(), 0.05).run("bert")


def test_a_link_in_the_place_of_a_temporary_file_is_not_followed(monkeypatch, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    path = tmp_path / "receipt.json"
    unlink = os.unlink

    def replaced_by_a_link(name):
        with contextlib.suppress(FileNotFoundError):
            unlink(name)
        if not os.path.lexists(name):
            os.symlink(precious, name)

    monkeypatch.setattr(os, "unlink", replaced_by_a_link)
    with pytest.raises(FileExistsError):
        replace_file(str(path), "text")
    assert precious.read_text() == "precious"
    assert not path.exists()


def test_a_file_that_a_killed_process_left_does_not_prevent_a_receipt(tmp_path):
    path = write_receipt(str(tmp_path), RECORD)
    left = f"{path}.{os.getpid()}-{threading.get_native_id()}.part"
    os.symlink(tmp_path / "nowhere", left)
    assert write_receipt(str(tmp_path), RECORD) == path
    assert os.listdir(tmp_path) == [os.path.basename(path)]


def test_signal_handlers_may_update_a_run_during_an_update(runs, program):
    told = program("""
        import signal
        with track("bert", receipts=None, interval_seconds=3600) as run:
            signals = 0

            def handle(*_):
                global signals
                signals += 1
                run.count(signals=1)
                run.log(last=signals)
                run.progress(signals, 1e6)

            signal.signal(signal.SIGALRM, handle)
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            for number in range(100_000):
                run.count(steps=1)
                run.progress(number, 100_000)
            signal.setitimer(signal.ITIMER_REAL, 0)
        print(signals)
    """)
    assert int(told) > 0
    assert runs.known["made-1"]["units"] == {"steps": 100_000, "signals": int(told)}


@pytest.mark.parametrize("ending", ["tracker.stop()", "raise SystemExit(0)"])
def test_a_signal_handler_may_end_the_run_or_the_program(runs, program, ending):
    program(f"""
        import os, signal

        def handle(*_):
            {ending}

        tracker = track("bert", receipts=None, interval_seconds=3600)
        with tracker as run:
            run.count(steps=1)
            signal.signal(signal.SIGTERM, handle)
            os.kill(os.getpid(), signal.SIGTERM)
    """)
    assert runs.known["made-1"]["units"] == {"steps": 1}
    assert len(runs.told("end")) == 1


def test_an_interrupted_block_is_ended_and_the_program_sees_the_interrupt(runs, program):
    told = program("""
        import os, signal, time
        try:
            with track("bert", receipts=None, interval_seconds=3600):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(60)
        except KeyboardInterrupt:
            print("interrupted")
    """)
    assert told == "interrupted\n"
    assert len(runs.told("end")) == 1


def test_children_that_fork_while_threads_update_the_run_count_for_it(runs, program):
    told = program("""
        import os, sys, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork in a program with threads
        with track("bert", receipts=None, interval_seconds=0.05) as run:
            ended, counts = threading.Event(), []

            def work():
                count = 0
                while not ended.is_set():
                    run.count(steps=1)
                    run.progress(count, 1e9)
                    run.refresh() if count % 50 == 0 else None
                    count += 1
                counts.append(count)

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads: thread.start()
            for _ in range(20):
                if (child := os.fork()) == 0:
                    run.count(samples=1)
                    run.refresh()
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
            ended.set()
            for thread in threads: thread.join()
        print(sum(counts))
    """)
    assert runs.known["made-1"]["units"] == {"samples": 20, "steps": int(told)}
    assert len(runs.told("end")) == 1


def test_a_thread_may_fork_children_of_which_each_has_a_run_of_its_own(runs, program):
    program("""
        import os, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)

        def work():
            if (child := os.fork()) == 0:
                with track("child", receipts=None, interval_seconds=3600) as inner:
                    inner.count(samples=1)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0

        with track("parent", receipts=None, interval_seconds=3600) as run:
            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
    """)
    assert [known["units"] for known in runs.known.values()] == [{}, *[{"samples": 1}] * 4]
    assert len(runs.told("end")) == 5


def test_a_program_that_exits_at_once_has_sent_what_it_was_asked_to(runs, program):
    program("""
        import os
        with track("bert", receipts=None, interval_seconds=3600) as run:
            run.count(steps=1)
            run.refresh()
            os._exit(0)
    """)
    assert runs.known["made-1"]["units"] == {"steps": 1}
    assert runs.told("end") == []  # the daemon ends the run with its last process


@pytest.mark.parametrize(
    "text",
    [
        # atexit
        """
        import atexit

        def work():
            with track("bert", receipts=None) as run: run.count(steps=1)
        atexit.register(work)
        """,
        # a destructor of a module's object
        """
        class Trainer:
            def __init__(self):
                self.tracker = track("bert", receipts=None, interval_seconds=3600)
                self.tracker.start().count(steps=1)
            def __del__(self):
                self.tracker.stop()
        trainer = Trainer()
        """,
        # a thread that is still at work
        """
        import threading, time

        def work():
            with track("bert", receipts=None, interval_seconds=3600) as run:
                threading.main_thread().join()
                run.count(steps=1)
        threading.Thread(target=work).start()
        """,
        # a thread that Python stops
        """
        import threading, time
        started = threading.Event()

        def work():
            with track("bert", receipts=None, interval_seconds=0.05) as run:
                run.count(steps=1)
                started.set()
                while True: run.progress(1, 2)
        threading.Thread(target=work, daemon=True).start()
        started.wait()
        """,
    ],
    ids=["atexit", "destructor", "thread", "daemon thread"],
)
def test_a_run_is_ended_during_the_shutdown_of_the_interpreter(runs, program, text):
    program(text)
    assert runs.known["made-1"]["units"] == {"steps": 1}
    assert len(runs.told("end")) == 1
