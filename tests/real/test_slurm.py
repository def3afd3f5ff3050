"""Jobs of a real Slurm, seen by a daemon with the rights that its unit gives it: none."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from exporter.attribute.sources.job_files import parse_job_file
from exporter.attribute.sources.slurm_cgroups import SLURMSTEPD_TITLE
from exporter.client.environment import detect_launch
from tests.nvml.fake import FakeNvml, build
from tests.real.fed import Host
from tests.real.parts import REPOSITORY, Daemon, get, let_others_in, until
from tests.real.slurm import Slurm, slurm, why_not

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler for the made-up driver"),
]

RETAINED_SECONDS = 4
GPU_WATTS = (70.0, 300.0)
END = "print(time.process_time(), flush=True)\ntime.sleep(1)'"
"""What a job used since the last look goes with its cgroup: nothing, as it sleeps."""
SPIN = f"exec python3 -c 'import time\nwhile time.process_time() < {{seconds}}: pass\n{END}"
HALF = (
    "exec python3 -c 'import time\n"
    "while time.process_time() < {seconds}:\n"
    "    began = time.process_time()\n"
    "    while time.process_time() - began < 0.05: pass\n"
    f"    time.sleep(0.05)\n{END}"
)
NO_RIGHTS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")


class Node:
    """The daemon, the Slurm beside it, and what was seen of a job that has ended."""

    def __init__(self, daemon: Daemon, jobs: Slurm) -> None:
        self.daemon = daemon
        self.jobs = jobs

    def run(self, job_id: str) -> dict[str, Any]:
        return dict(self.daemon.json(f"/api/v1/runs/{job_id}?job_id={job_id}"))

    def knows(self, job_id: str) -> bool:
        return job_id in [run["run_id"] for run in self.daemon.json("/api/v1/runs")["runs"]]

    def series(self, family: str, job_id: str) -> str:
        """The lines of a run's series whose family begins with this."""
        lines = get(self.daemon.url + "/metrics").decode().splitlines()
        named = f'run_id="{job_id}"'
        return "\n".join(x for x in lines if x.startswith(f"emissions_{family}") and named in x)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    root = tmp_path_factory.mktemp("slurm")
    let_others_in(root)
    with ExitStack() as ends:
        patch = ends.enter_context(pytest.MonkeyPatch.context())
        host = Host(root / "host")
        ends.enter_context(host.tree)
        ends.callback(host.stop)
        host.play()
        fake = FakeNvml(root / "fake", described())
        library = build(root / "library")
        for name, value in fake.environment(library).items():
            patch.setenv(name, value)
        directory = root / "jobs"
        patch.setenv("EMISSIONS_EXPORTER_ATTRIBUTE_JOBS_DIRECTORY", str(directory))
        patch.setenv("EMISSIONS_EXPORTER_ATTRIBUTE_RETAIN_ENDED_SECONDS", str(RETAINED_SECONDS))
        daemon = Daemon(root / "daemon", f"--path.sysfs={host.root}", "--sample.interval=0.2")
        daemon.prefix = NO_RIGHTS
        ends.callback(daemon.stop)
        daemon.start()
        scripts = [script(root, name, directory) for name in ("prolog", "epilog")]
        (root / "cluster").mkdir()
        jobs = ends.enter_context(slurm(root / "cluster", *scripts, gpus=2))
        yield Node(daemon, jobs)


def described() -> dict[str, Any]:
    gpus = [
        {
            "kind": "gpu",
            "id": f"GPU-{number}",
            "model": "NVIDIA H200",
            "pci_bus_id": f"00000000:{number + 1:02X}:00.0",
            "power_limit_watts": 700,
            "watts": [[0, watts]],
            # Slurm lists device files, which are in another order than the driver's indices.
            "nvml": {"minor": len(GPU_WATTS) - 1 - number},
        }
        for number, watts in enumerate(GPU_WATTS)
    ]
    return {"period_seconds": 600, "devices": gpus}


def script(root: Path, name: str, directory: Path) -> Path:
    """Ours as a site would chain it, with a stand-in for NVIDIA's tool before the real one."""
    tools = root / "bin"
    tools.mkdir(exist_ok=True)
    tool = tools / "nvidia-smi"
    lines = "\n".join(
        f"echo '00000000:{number + 1:02X}:00.0, GPU-{number}, {number}, Disabled'"
        for number in range(len(GPU_WATTS))
    )
    tool.write_text(f"#!/bin/sh\n{lines}\n")
    tool.chmod(0o755)
    path = root / f"{name}.sh"
    path.write_text(
        "#!/bin/sh\n"
        f"export PATH={tools}:/usr/bin:/bin EMISSIONS_JOBS_DIRECTORY={directory}\n"
        f"exec {REPOSITORY}/deploy/slurm/{name}.sh\n"
    )
    path.chmod(0o755)
    return path


def cpu_uj(run: dict[str, Any]) -> int:
    return sum(part["energy_uj"] for part in run["parts"] if part["device"] == "cpu")


def test_two_jobs_pay_for_the_processor_by_their_cpu_time(node: Node) -> None:
    busy = node.jobs.submit(SPIN.format(seconds=10), "--job-name=busy")
    half = node.jobs.submit(HALF.format(seconds=5), "--job-name=half")
    for job_id in (busy, half):
        node.jobs.wait(job_id)
        until(lambda job_id=job_id: node.run(job_id)["ended"], what="the job ends on the page")
    seconds = {job_id: float(node.jobs.output(job_id)) for job_id in (busy, half)}
    more = seconds[busy] / seconds[half]
    assert more == pytest.approx(2, rel=0.1)
    assert cpu_uj(node.run(busy)) / cpu_uj(node.run(half)) == pytest.approx(more, rel=0.05)


def test_a_job_has_its_ids_and_its_user_on_the_page_without_a_word_of_it(node: Node) -> None:
    job_id = node.jobs.submit("sleep 30", "--job-name=quiet")
    info = until(lambda: node.series("run_info", job_id), what="the job is on the page")
    assert f'job_id="{job_id}"' in info
    assert 'user="games"' in info
    assert 'origin="slurm"' in info
    node.jobs.cancel_all()
    node.jobs.wait(job_id)


def test_an_ended_job_stays_for_a_while_and_then_only_in_the_ledger(node: Node) -> None:
    job_id = node.jobs.submit(SPIN.format(seconds=1))
    node.jobs.wait(job_id)
    record = until(lambda: (run := node.run(job_id))["ended"] and run, what="the job ends")
    assert node.series("run_energy_joules_total", job_id)
    until(lambda: not node.series("run_", job_id), 60, "it leaves the page")
    assert node.run(job_id)["energy_uj"] == record["energy_uj"] > 0


def test_a_job_pays_for_the_gpu_that_it_was_given_and_leaves_idle(node: Node) -> None:
    job_id = node.jobs.submit("sleep 60", "--gres=gpu:2")
    before = until(lambda: gpus(node, job_id), what="the job holds its GPUs")
    began = time.monotonic()
    time.sleep(6)
    after = gpus(node, job_id)
    lasted = time.monotonic() - began
    for number, watts in enumerate(GPU_WATTS):
        used = after[f"GPU-{number}"] - before[f"GPU-{number}"]
        assert used / 1e6 == pytest.approx(watts * lasted, rel=0.3)
    run = node.run(job_id)
    assert {part["split"] for part in run["parts"] if part["device"] == "gpu"} == {"exclusive"}
    assert run["user"] == "games"
    node.jobs.cancel_all()
    node.jobs.wait(job_id)


def test_another_job_gets_only_the_gpu_that_is_its_own(node: Node) -> None:
    first = node.jobs.submit("sleep 60", "--gres=gpu:1")
    second = node.jobs.submit("sleep 60", "--gres=gpu:1")
    until(lambda: gpus(node, first) and gpus(node, second), what="both hold their GPUs")
    assert [set(gpus(node, job_id)) for job_id in (first, second)] == [{"GPU-1"}, {"GPU-0"}]
    node.jobs.cancel_all()
    node.jobs.wait(second)


def test_slurmstepd_names_its_job_in_the_title_that_jobs_with_a_sluid_are_known_by(
    node: Node,
) -> None:
    job_id = node.jobs.submit("sleep 60")
    until(lambda: job_id in titles(), what="slurmstepd of the job runs")
    node.jobs.cancel_all()
    node.jobs.wait(job_id)


def test_two_launches_in_a_batch_script_are_told_apart(node: Node) -> None:
    job_id = node.jobs.submit("env | grep ^SLURM_")
    node.jobs.wait(job_id)
    job = dict(line.split("=", 1) for line in node.jobs.output(job_id).splitlines())
    launch = {**job, "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
    first, second = (
        detect_launch({**launch, "MASTER_PORT": port}, "") for port in ("29500", "29501")
    )
    assert first.job_id == second.job_id == job_id
    assert first.run_id != second.run_id


def test_the_prolog_writes_down_the_boot_that_a_job_is_of(node: Node) -> None:
    job_id = node.jobs.submit("sleep 60")
    directory = Path(os.environ["EMISSIONS_EXPORTER_ATTRIBUTE_JOBS_DIRECTORY"])
    written = until((directory / job_id).exists, what="the prolog has run") and parse_job_file(
        (directory / job_id).read_bytes()
    )
    assert written.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    node.jobs.cancel_all()
    node.jobs.wait(job_id)


def titles() -> list[str]:
    """The jobs that processes name in their titles."""
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(SLURMSTEPD_TITLE.match(cmdline.read_bytes()))
    return [match[1].decode() for match in found if match]


def test_the_ledger_took_all_of_it(node: Node) -> None:
    health = node.daemon.json("/api/v1/snapshot")["health"]
    assert (health["ledger_errors"], health["imbalance_uj"]) == (0, 0)
    assert health["ledger_why"] == ""


def gpus(node: Node, job_id: str) -> dict[str, int]:
    """Energy of each GPU that was charged to a job, microjoules; empty if it is not known yet."""
    if not node.knows(job_id):
        return {}
    parts = node.run(job_id)["parts"]
    return {part["id"]: part["energy_uj"] for part in parts if part["device"] == "gpu"}
