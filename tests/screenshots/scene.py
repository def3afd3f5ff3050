"""A node to be looked at: a recorded one, played for an hour in a moment, then served as it is.

The clock is made up, so the same code draws the same pictures. What a recording cannot say is added
to the last tick: budgets, progress, results, an inner run, estimated memory.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from exporter import data
from exporter.config import AccountConfig, Config, ConvertConfig, ExposeConfig, SampleConfig
from exporter.daemon import Daemon
from exporter.model.readings import DeviceKind, Method
from exporter.model.runs import Progress, ProgressMark, RunInfo, UnitCount
from exporter.model.snapshot import DeviceState, Snapshot
from tests.fakes import FakeClock

NODE = "gpu-node-17"
STRETCH = 9
"""The recording is played this many times slower: its runs last about an hour."""
BEGIN_SECONDS, END_SECONDS = 200, 3500
STEP_SECONDS = 5
MODEL = "672 GB (assumed 0.38 W per GB)"
TRAINING, EVALUATION = "llama-3-8b-sft", "eval-suite"
BUDGET_GRAMS = 1_600.0


@contextmanager
def scene(directory: Path) -> Iterator[str]:
    """The address at which the node is served until the end."""
    fixture = directory / "host.json"
    fixture.write_text(json.dumps(_slower()))
    config = Config(
        sample=SampleConfig(replay=str(fixture)),
        account=AccountConfig(state_directory=str(directory / "state")),
        convert=ConvertConfig(zone="DE", pue=1.2),
        expose=ExposeConfig(
            node=NODE, listen_address="127.0.0.1:0", socket=str(directory / "agent.sock")
        ),
    )
    clock = FakeClock()
    clock.now_ns = BEGIN_SECONDS * 1_000_000_000
    app = Daemon(config, {}, clock)
    app.writer.start()
    for _ in range(0, END_SECONDS - BEGIN_SECONDS, STEP_SECONDS):
        app.pipeline.tick()
        clock.advance(STEP_SECONDS)
    snapshot = app.pipeline.tick()
    app.pipeline.commit()
    _written(app, snapshot)
    app.publisher.publish(_told(snapshot))
    web = app._web()
    ((host, port), *_) = web.bind()
    thread = threading.Thread(target=web.run)
    thread.start()
    try:
        yield f"http://{host}:{port}/"
    finally:
        web.stop()
        thread.join()
        app.close()


def _slower() -> dict[str, Any]:
    """The shipped recording of eight GPUs, stretched in time."""
    path = data.DIRECTORY / "replay" / "eight-gpu.json"
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    document["period_seconds"] *= STRETCH
    for device in document["devices"]:
        device["watts"] = _stretched(device["watts"])
    for run in document["workload"]:
        run.update(starts=run["starts"] * STRETCH, ends=run["ends"] * STRETCH)
        run["cpu"] = _stretched(run["cpu"])
        for seat in run.get("gpus", ()):
            seat["active"] = _stretched(seat["active"])
    if "other_cpu" in document:
        document["other_cpu"] = _stretched(document["other_cpu"])
    return document


def _stretched(points: list[list[float]]) -> list[list[float]]:
    return [[seconds * STRETCH, value] for seconds, value in points]


def _written(app: Daemon, snapshot: Snapshot) -> None:
    """Wait until the ledger has all of it."""
    deadline = time.monotonic() + 30
    while app.writer.committed_seq < snapshot.tick:
        assert time.monotonic() < deadline, app.writer.why or "the ledger is not written"
        time.sleep(0.05)


def _told(snapshot: Snapshot) -> Snapshot:
    rows = [
        row._replace(method=Method.ESTIMATED) if row.device.kind is DeviceKind.DRAM else row
        for row in snapshot.rows
    ]
    return snapshot._replace(
        rows=tuple(rows),
        devices=tuple(_estimated(state) for state in snapshot.devices),
        runs=tuple(_known(run, snapshot) for run in snapshot.runs),
        notes=("dram energy is estimated, 0.38 W per GB: published average of servers",),
    )


def _estimated(state: DeviceState) -> DeviceState:
    info = state.info
    if info.device.kind is not DeviceKind.DRAM:
        return state
    changed = {"method": Method.ESTIMATED, "source": "dram_estimate", "model": MODEL}
    return state._replace(info=info._replace(**changed))


def _known(run: RunInfo, snapshot: Snapshot) -> RunInfo:
    """A run with what its program would say."""
    if run.shown_id == TRAINING:
        used = [row.balance.total for row in snapshot.rows if row.target == run.key]
        energy_uj = sum(amount.energy_uj for amount in used)
        carbon_ng = sum(amount.carbon_ng for amount in used)
        return run._replace(
            labels=(("team", "nlp"), ("group", "sft-sweep")),
            account="nlp-research",
            budget_grams=BUDGET_GRAMS,
            units=(UnitCount("tokens", 41_800_000.0),),
            logged=(("accuracy", 0.6713), ("loss", 1.284)),
            progress=Progress(
                12_000.0,
                ProgressMark(0.0, run.started, 0, 0),
                ProgressMark(9_150.0, snapshot.wall, energy_uj, carbon_ng),
                tuple(
                    ProgressMark(
                        9_150.0 * done,
                        run.started + (snapshot.wall - run.started) * used,
                        round(energy_uj * used),
                        round(carbon_ng * used),
                    )
                    for done, used in ((0.2, 0.22), (0.4, 0.41), (0.6, 0.62), (0.8, 0.81))
                ),
            ),
        )
    if run.shown_id == EVALUATION:
        around = next(other for other in snapshot.runs if other.shown_id == TRAINING)
        return run._replace(enclosing=around.key, labels=(("team", "nlp"),))
    return run
