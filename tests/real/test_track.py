"""Programs that track themselves, on a host whose powers are known."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.clocks import WATTS, Clocks
from tests.real.fed import Host, daemon_of_100_watts
from tests.real.parts import REPOSITORY, Daemon, until

pytestmark = pytest.mark.real

HEAD = """
import json, os, sys, time
from exporter.client import current_run, track

def spin(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until: pass

def used():
    return sum(os.times()[:4])

def tell(run, **more):
    said = {"record": run.record, "cpu": used() - begun, **more}
    print(json.dumps(said), flush=True)

begun = used()
"""
"""`cpu` is what the program and its children used after all this was imported, in seconds."""


class Node:
    """A daemon whose package draws 100 W, always."""

    def __init__(self, directory: Path, daemon: Daemon) -> None:
        self.directory = directory
        self.daemon = daemon

    def begin(self, program: str, **environment: str) -> "subprocess.Popen[str]":
        """A program that imports the client and knows the daemon's socket."""
        text = HEAD + textwrap.dedent(program)
        return subprocess.Popen(
            [sys.executable, "-c", text],
            cwd=self.directory,
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "EMISSIONS_EXPORTER_EXPOSE_SOCKET": self.daemon.socket,
                **environment,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, program: str, **environment: str) -> list[dict[str, Any]]:
        """What a program told, to its end."""
        return finished(self.begin(program, **environment))

    def snapshot(self) -> dict[str, Any]:
        return dict(self.daemon.json("/api/v1/snapshot"))

    def record(self, run_id: str) -> dict[str, Any]:
        return dict(self.daemon.json(f"/api/v1/runs/{run_id}"))


def finished(process: "subprocess.Popen[str]") -> list[dict[str, Any]]:
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return [json.loads(line) for line in out.splitlines()]


def cpu_joules(record: dict[str, Any]) -> float:
    parts = [part["energy_uj"] for part in record["parts"] if part["device"] == "cpu"]
    return float(sum(parts)) / 1e6


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    root = tmp_path_factory.mktemp("track")
    with daemon_of_100_watts(root) as daemon:
        yield Node(root, daemon)


def test_four_trackers_at_once_and_the_rest_are_the_node_exactly(
    node: Node, clocks: Clocks
) -> None:
    program = "with track(f'four-{sys.argv}') as run: spin(3)\ntell(run)"
    told = [
        finished(process)[0]
        for process in [node.begin(program.replace("{sys.argv}", str(n))) for n in range(4)]
    ]
    assert len({each["record"]["run_id"] for each in told}) == 4
    for each in told:
        assert cpu_joules(each["record"]) == clocks.add_cpu_time(each["cpu"], rel=0.1)
    for device in node.snapshot()["devices"]:
        counted = device["counted"]
        assert counted["energy_uj"] == counted["attributed_uj"] + sum(
            counted["unattributed_uj"].values()
        )


def test_a_sleeping_process_pays_for_nothing_that_it_does_not_do(node: Node) -> None:
    (told,) = node.run("with track('asleep') as run: time.sleep(3)\ntell(run)")
    assert cpu_joules(told["record"]) < 0.02 * WATTS * 3


def test_a_run_of_two_seconds_is_exact_to_a_part_of_a_tick(node: Node, clocks: Clocks) -> None:
    program = """
        began = time.process_time()
        with track('short') as run: spin(2)
        tell(run, own=time.process_time() - began)
    """
    (told,) = node.run(program)
    assert cpu_joules(told["record"]) == clocks.add_cpu_time(told["own"], rel=0.05)


def test_an_inner_run_is_counted_apart_from_the_one_around_it(node: Node, clocks: Clocks) -> None:
    program = """
        with track('outer') as outer:
            spin(1)
            with track('inner') as inner: spin(2)
            spin(1)
        tell(outer, inner=inner.record)
    """
    (told,) = node.run(program)
    assert told["record"]["run_id"] != told["inner"]["run_id"]
    for record in (told["record"], told["inner"]):
        assert cpu_joules(record) == clocks.add_cpu_time(2, rel=0.08)


def test_a_run_that_comes_back_goes_on(node: Node, clocks: Clocks) -> None:
    program = "with track(run_id='again') as run:\n    run.count(steps=5)\n    spin(1)\ntell(run)"
    (first,), (second,) = node.run(program), node.run(program)
    assert cpu_joules(second["record"]) == clocks.add_cpu_time(
        first["cpu"] + second["cpu"], rel=0.2
    )
    assert second["record"]["units"] == {"steps": 10}
    assert second["record"]["started"] == first["record"]["started"]


def test_a_killed_program_leaves_its_run_and_its_receipt(node: Node, clocks: Clocks) -> None:
    program = """
        with track(run_id='killed', interval_seconds=0.1) as run:
            run.log(accuracy=0.5, note='good')
            spin(1)
            tell(run)
            time.sleep(600)
    """
    process = node.begin(program)
    assert process.stdout is not None
    process.stdout.readline()
    until(lambda: node.record("killed")["logged"], what="what it logged has arrived")
    node.daemon.pass_ticks(2)  # what it used since the last is never seen
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    record = until(lambda: (r := node.record("killed"))["ended"] and r, what="the run ends")
    assert record["end_reason"] == "exited"
    assert record["logged"] == {"accuracy": 0.5, "note": "good"}
    assert cpu_joules(record) == clocks.add_cpu_time(1, rel=0.25)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_either_kind_belong_to_the_run_and_count_for_it(
    node: Node, clocks: Clocks, method: str
) -> None:
    path = node.directory / f"children_{method}.py"
    path.write_text(
        HEAD
        + textwrap.dedent(
            f"""
            import multiprocessing

            def work(number):
                current_run().count(samples=10)
                spin(1)

            if __name__ == "__main__":
                with track(run_id="{method}") as run:
                    run.count(samples=1)
                    context = multiprocessing.get_context("{method}")
                    children = [context.Process(target=work, args=(n,)) for n in range(3)]
                    for child in children: child.start()
                    for child in children: child.join()
                tell(run)
            """
        )
    )
    (told,) = node.run(f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')")
    record = told["record"]
    assert record["end_reason"] == "ended"
    assert record["units"] == {"samples": 31}
    assert cpu_joules(record) == clocks.add_cpu_time(told["cpu"], rel=0.15)


def test_the_ranks_of_one_launch_are_one_run(node: Node, clocks: Clocks) -> None:
    program = "with track('ranks') as run: spin(1)\ntell(run)"
    ranks = [
        node.begin(program, RANK=str(n), LOCAL_RANK=str(n), WORLD_SIZE="3", LOCAL_WORLD_SIZE="3")
        for n in range(3)
    ]
    told = [finished(rank)[0] for rank in ranks]
    (run_id,) = {each["record"]["run_id"] for each in told}
    total = sum(each["cpu"] for each in told)
    assert cpu_joules(node.record(run_id)) == clocks.add_cpu_time(total, rel=0.15)


def test_what_children_used_that_exit_each_second_is_lost_nowhere(
    node: Node, clocks: Clocks
) -> None:
    program = """
        import subprocess
        with track(run_id='children') as run:
            for _ in range(8):
                code = "import time\\nwhile time.process_time() < 0.5: pass"
                subprocess.run([sys.executable, "-c", code])
        tell(run)
    """
    (told,) = node.run(program)
    assert cpu_joules(told["record"]) == clocks.add_cpu_time(told["cpu"], rel=0.03)


def test_a_restart_of_the_daemon_costs_a_run_less_than_a_hundredth(
    node: Node, clocks: Clocks
) -> None:
    program = "with track(run_id='restart', interval_seconds=0.5) as run: spin(14)\ntell(run)"
    process = node.begin(program)
    until(lambda: node.snapshot() and "restart" in running(node), what="the run begins")
    time.sleep(4)
    node.daemon.kill()
    time.sleep(2)
    node.daemon.start()
    (told,) = finished(process)
    assert cpu_joules(told["record"]) == clocks.add_cpu_time(told["cpu"], rel=0.01)


def test_a_daemon_that_hangs_delays_a_program_for_a_bounded_time(node: Node) -> None:
    program = """
        def timed(call):
            began = time.monotonic()
            call()
            return time.monotonic() - began

        run = track('hangs', private=False, interval_seconds=0.5).start()
        print(json.dumps(run.is_measured), flush=True)
        sys.stdin.readline()
        seconds = [timed(run.stop)]
        for _ in range(3):
            seconds.append(timed(lambda: track('unmeasured', private=False).start()))
        print(json.dumps(seconds))
    """
    process = node.begin(program)
    assert process.stdout is not None
    assert process.stdout.readline() == "true\n"
    daemon = node.daemon.process
    assert daemon is not None
    daemon.send_signal(signal.SIGSTOP)
    try:
        out, _ = process.communicate("\n", timeout=120)
    finally:
        daemon.send_signal(signal.SIGCONT)
    stop, *starts = json.loads(out)
    assert stop < 40  # a report in progress, the last report, the end
    assert max(starts) < 5


def running(node: Node) -> list[str]:
    return [run["run_id"] for run in node.snapshot()["runs"] if run["ended"] is None]


def test_a_program_goes_on_where_nobody_measures(node: Node) -> None:
    program = """
        with track('alone', private=False) as run:
            run.count(tokens=1)
        print(json.dumps({"measured": run.is_measured, "joules": str(run.energy_joules)}))
    """
    nowhere = str(node.directory / "nobody.sock")
    (told,) = node.run(program, EMISSIONS_EXPORTER_EXPOSE_SOCKET=nowhere)
    assert told == {"measured": False, "joules": "nan"}


def test_programs_without_a_daemon_share_one_of_their_own(node: Node, tmp_path: Path) -> None:
    environment = {
        "EMISSIONS_EXPORTER_EXPOSE_SOCKET": "",
        "XDG_RUNTIME_DIR": str(tmp_path),
        "EMISSIONS_EXPORTER_ACCOUNT_STATE_DIRECTORY": str(tmp_path / "state"),
    }
    program = f"with track('own', receipts={str(tmp_path)!r}) as run: spin(1.5)\ntell(run)"
    pair = [node.begin(program, **environment) for _ in range(2)]
    told = [finished(process)[0]["record"] for process in pair]
    daemon = int((tmp_path / "state" / "lock").read_text())
    try:
        assert len({record["run_id"] for record in told}) == 2
        assert all(cpu_joules(record) > 0 for record in told)
        assert len(list(tmp_path.glob("*.json"))) == 2
    finally:
        os.kill(daemon, signal.SIGTERM)


def test_a_sweep_of_many_short_runs_is_one_group_and_none_is_lost(
    node: Node, clocks: Clocks
) -> None:
    program = """
        for number in range(40):
            with track(run_id=f"sweep-{number}", group="sweep", receipts=None) as run:
                spin(0.05)
                run.count(trials=1)
        tell(run)
    """
    (told,) = node.run(program)
    runs = node.daemon.json("/api/v1/runs?group=sweep&limit=1000")["runs"]
    assert len(runs) == 40
    assert sum(run["units"]["trials"] for run in runs) == 40
    total = sum(cpu_joules(run) for run in runs)
    assert clocks.joules(0.5 * 40 * 0.05) < total < clocks.joules(1.1 * told["cpu"])


def test_more_runs_than_may_be_shown_are_counted_together_and_said(
    node: Node, tmp_path: Path
) -> None:
    program = """
        from exporter.client.agent_client import AgentClient
        from exporter.client.errors import AgentRefusal
        agent, ids = AgentClient(), set()
        for number in range(2000):
            try:
                ids.add(agent.start(run_id=f"many-{number}")["run_id"])
            except AgentRefusal as refusal:
                assert refusal.status == 429, refusal
            if "other" in ids: break
            time.sleep(0.02)
        with track("one too many") as run: pass
        print(json.dumps({"shown": len(ids) - 1, "measured": run.is_measured}))
    """
    host = Host(tmp_path / "host")
    with host.tree:
        daemon = Daemon(tmp_path / "daemon", f"--path.sysfs={host.root}")
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"attribute": {"max_runs": 20, "read_environments": False}}))
        daemon.flags = (*daemon.flags, f"--config.file={config}")
        daemon.start()
        try:
            (told,) = Node(tmp_path, daemon).run(program)
            assert told == {"shown": 18, "measured": False}  # nine tenths
            assert daemon.json("/api/v1/snapshot")["health"]["series_dropped"] >= 1
        finally:
            daemon.stop()


def test_a_daemon_of_ones_own_that_cannot_start_stops_no_program(
    node: Node, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    process = node.begin(
        "with track('own') as run: pass\nprint(json.dumps(run.is_measured))",
        EMISSIONS_EXPORTER_EXPOSE_SOCKET="",
        XDG_RUNTIME_DIR=str(tmp_path / "file"),
    )
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "false\n")
    assert "not measured, the program continues: private daemon cannot be started" in errors


def test_after_half_of_the_work_the_forecast_is_about_what_it_comes_to(node: Node) -> None:
    half, last = node.run(
        """
        with track("epochs") as run:
            run.progress(0, 6)
            for epoch in range(6):
                spin(0.8)
                time.sleep(2)  # what was used since the last tick is in no forecast
                run.progress(epoch + 1, 6)
                run.refresh()
                if epoch == 2: tell(run)
        tell(run)
        """
    )
    ahead, used = half["record"]["forecast"], last["record"]["energy_joules"]
    assert ahead["energy_joules"] == pytest.approx(used, rel=0.25)
    assert ahead["low"]["energy_joules"] < ahead["energy_joules"] < ahead["high"]["energy_joules"]
    assert ahead["low"]["end"] <= ahead["end"] <= ahead["high"]["end"]
    assert last["record"]["forecast"] is None


def test_a_budget_that_is_sure_to_be_passed_stops_the_program_early(node: Node) -> None:
    (said,) = node.run(
        """
        from exporter.client import BudgetExceeded
        try:
            with track("epochs", budget_grams=0.05, on_forecast="raise") as run:
                for epoch in range(1000):
                    run.progress(epoch, 1000)
                    spin(0.3)
                    run.refresh()
        except BudgetExceeded as error:
            tell(run, why=str(error), epoch=epoch)
        """
    )
    assert "is forecast to emit" in said["why"]
    assert said["record"]["carbon_grams"] < 0.05
    assert said["epoch"] < 50
