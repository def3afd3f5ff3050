"""Who a process is in its launch, by its environment."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.client.environment import detect_job_id, detect_launch, is_restart
from exporter.job_variables import SCHEDULERS, job_from_environment


def test_a_program_alone_leaves_its_id_to_the_daemon():
    assert detect_launch({}, "bert") == (0, 0, 1, 1, "", "")


def torchrun(rank, **more):
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank % 4),
        "WORLD_SIZE": "8",
        "LOCAL_WORLD_SIZE": "4",
        "MASTER_ADDR": "head",
        "MASTER_PORT": "29500",
        **more,
    }


def test_ranks_of_one_launch_find_one_id():
    ids = {detect_launch(torchrun(rank), "bert").run_id for rank in range(8)}
    assert len(ids) == 1
    assert ids.pop().startswith("bert-")


def test_another_launch_finds_another_id():
    first, second = torchrun(0), torchrun(0, MASTER_PORT="29501")
    assert detect_launch(first, "bert").run_id != detect_launch(second, "bert").run_id


def test_on_one_node_the_parent_tells_launches_apart(monkeypatch):
    alone = torchrun(0, LOCAL_WORLD_SIZE="8")
    first = detect_launch(alone, "bert").run_id
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert detect_launch(alone, "bert").run_id != first


def test_a_job_of_a_scheduler_tells_launches_apart_on_many_nodes():
    job = torchrun(0, SLURM_JOB_ID="17", SLURM_STEP_ID="0")
    other_node = {**job, "MASTER_ADDR": "seen otherwise"}
    assert detect_launch(job, "").run_id == detect_launch(other_node, "").run_id
    assert detect_launch(job, "").job_id == "17"


def test_on_many_nodes_without_a_step_the_port_tells_the_launches_of_a_job_apart():
    job = torchrun(0, SLURM_JOB_ID="17", TORCHELASTIC_RUN_ID="none")
    ids = {detect_launch({**job, "MASTER_PORT": port}, "").run_id for port in ("29500", "29501")}
    assert len(ids) == 2
    assert detect_launch(job, "").run_id == detect_launch({**job, "RANK": "5"}, "").run_id


@pytest.mark.parametrize("step", ["-5", "4294967291", "4294967290", ""])
def test_the_batch_script_is_no_step_that_a_launch_is_known_by(step):
    """SLURM_BATCH_SCRIPT and SLURM_INTERACTIVE_STEP of slurm.h, as env.c prints them."""
    job = torchrun(0, SLURM_JOB_ID="17", SLURM_STEP_ID=step)
    other = {**job, "MASTER_PORT": "29501"}
    assert detect_launch(job, "").run_id != detect_launch(other, "").run_id


def test_one_step_may_run_several_torchruns(monkeypatch):
    step = torchrun(0, LOCAL_WORLD_SIZE="8", SLURM_JOB_ID="17", SLURM_STEP_ID="0")
    elastic = {**step, "TORCHELASTIC_RUN_ID": "none"}
    first = detect_launch(elastic, "").run_id
    ranks_of_srun = detect_launch(step, "").run_id
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert detect_launch(elastic, "").run_id != first
    assert detect_launch(step, "").run_id == ranks_of_srun


MPIRUN = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4", "PBS_JOBID": "8.head"}


@pytest.mark.parametrize("name", ["PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"])
def test_an_mpirun_is_told_apart_by_its_own_id(name):
    first, again = {**MPIRUN, name: "1234"}, {**MPIRUN, name: "1234", "OMPI_COMM_WORLD_RANK": "3"}
    assert detect_launch(first, "").run_id == detect_launch(again, "").run_id
    assert detect_launch({**MPIRUN, name: "1235"}, "").run_id != detect_launch(first, "").run_id


PRINT_ID = """
import json, os, sys
from exporter.client.environment import detect_launch
print(json.dumps(detect_launch(os.environ, "").run_id))
"""
LAUNCHER = """
import os, subprocess, sys
for rank in "01":
    environment = {**os.environ, "TORCHELASTIC_RUN_ID": "none", "RANK": rank, "LOCAL_RANK": rank,
                   "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_PORT": "29500"}
    wrapped = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])"]
    command = [sys.executable, "-c", sys.argv[1]]
    subprocess.run((wrapped if rank == "1" else []) + command, env=environment, check=True)
"""


def test_two_launches_in_one_batch_script_are_two_and_their_ranks_are_one_each():
    """An agent like torchrun's; one rank is in a shell of its own, as with --no-python.

    Kubeflow's operator gives the agent itself a RANK.
    """
    environment = {**os.environ, "SLURM_JOB_ID": "17", "RANK": "0", "MASTER_PORT": "29500"}
    command = [sys.executable, "-c", LAUNCHER, PRINT_ID]
    ids = []
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        first, second = map(json.loads, done.stdout.split())
        assert first == second
        ids.append(first)
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (torchrun(0), False),
        (torchrun(0, TORCHELASTIC_RUN_ID="none", TORCHELASTIC_RESTART_COUNT="1"), True),
        (torchrun(0, SLURM_JOB_ID="17", SLURM_STEP_ID="0"), None),
        (torchrun(0, LOCAL_WORLD_SIZE="8"), None),
        (torchrun(0, TORCHELASTIC_RUN_ID="mine"), None),
        ({}, None),
    ],
)
def test_it_is_known_whether_the_next_launch_may_find_the_same_id(environment, expected):
    assert is_restart(environment, detect_launch(environment, "")) is expected


IDS = st.sampled_from(["", "1", "3", "17", "12345", "8.head", "8[3].head", "1098-0.head", "ƒ3ETxs"])
INDICES = st.sampled_from(["", "0", "1", "2", "3", "23", "undefined"])


@given(ids=st.lists(IDS, min_size=9, max_size=9), indices=st.lists(INDICES, min_size=9, max_size=9))
def test_a_job_has_the_same_id_for_the_program_and_for_the_daemon(ids, indices):
    environment = {}
    for known, job_id, index in zip(SCHEDULERS, ids, indices, strict=False):
        environment[known.job_id_variable] = job_id
        environment.update(dict.fromkeys(known.task_variables, index))
    environment.pop("RAY_JOB_ID", None)  # that of a driver, which no launch is in
    seen = job_from_environment(lambda name: environment.get(name, ""))
    assert detect_job_id(environment) == (seen.job_id if seen is not None else "")


def slurm(job, task, component):
    """As slurmctld numbers jobs: a task, and a component, has an id of its own.

    task.c of slurmstepd gives the tasks of every component the id of the first one.
    """
    if task is not None:
        array = {"SLURM_ARRAY_JOB_ID": str(10 * job), "SLURM_ARRAY_TASK_ID": str(task)}
        return {"SLURM_JOB_ID": str(10 * job + task), **array}
    if component is not None:
        return {"SLURM_JOB_ID": str(100 * job), "SLURM_HET_SIZE": "3"}
    return {"SLURM_JOB_ID": str(10 * job)}


def indexed(name, index, alone, written="{}", server=""):
    """A scheduler whose array tasks are told apart by their index."""

    def environment(job, task, _):
        job_id = str(job) if task is None else written.format(job, task)
        found = {name: job_id + server, index: alone if task is None else str(task)}
        return {name: value for name, value in found.items() if value}

    return environment


SCHEDULERS_OF = {
    "slurm": slurm,
    "lsf": indexed("LSB_JOBID", "LSB_JOBINDEX", "0"),
    "sge": indexed("JOB_ID", "SGE_TASK_ID", "undefined"),
    "pbs": indexed("PBS_JOBID", "PBS_ARRAY_INDEX", "", "{}[{}]", ".head"),
    "torque": indexed("PBS_JOBID", "PBS_ARRAYID", "", "{}-{}", ".torque"),
    "flux": lambda job, *_: {"FLUX_JOB_ID": f"ƒ{job}"},
    "oar": lambda job, *_: {"OAR_JOB_ID": str(job)},
}


def srun(step, component):
    """`_set_step_id` of stepmgr.c: the first component numbers the steps of them all."""
    return {
        "SLURM_STEP_ID": str(3 * step + (component or 0)),
        "SLURM_STEP_NUM_TASKS": "8",
        "SLURM_STEP_NUM_NODES": "2",
    }


def mpirun(number, component):
    return {
        "OMPI_COMM_WORLD_RANK": "0",
        "OMPI_COMM_WORLD_SIZE": "8",
        "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
        "PMIX_NAMESPACE": f"prterun-head{component}-{number}@1",
    }


def elastic(number, component):
    """A torchrun over two nodes; no two at a time have the head and the port in common."""
    head = {"MASTER_ADDR": f"head{component}", "MASTER_PORT": str(29500 + number)}
    return torchrun(0, TORCHELASTIC_RUN_ID="none", GROUP_WORLD_SIZE="2", **head)


SMALL = st.integers(1, 2)
IDENTITIES = st.tuples(
    st.sampled_from(["slurm"]),
    SMALL,
    st.none(),
    st.none() | st.integers(0, 1),
    st.tuples(SMALL, st.none()) | st.tuples(st.none() | SMALL, st.tuples(st.just(elastic), SMALL)),
) | st.tuples(
    st.sampled_from(list(SCHEDULERS_OF)),
    SMALL,
    st.none() | SMALL,
    st.none(),
    st.tuples(st.none(), st.tuples(st.sampled_from([mpirun, elastic]), SMALL)),
).filter(lambda each: each[2] is None or each[0] not in ("flux", "oar"))
"""Scheduler, job, array index, component, and the step and launch in it, of either one at least."""


def environment_of(identity):
    scheduler, job, task, component, (step, launch) = identity
    environment = SCHEDULERS_OF[scheduler](job, task, component)
    if step is not None:
        environment |= srun(step, component)
    return environment | launch[0](launch[1], component) if launch else environment


@given(identities=st.lists(IDENTITIES, min_size=2, max_size=20, unique=True))
def test_each_launch_of_each_task_or_component_of_each_job_has_an_id_of_its_own(identities):
    launches = [detect_launch(environment_of(identity), "") for identity in identities]
    assert all(launch.run_id for launch in launches)
    assert len({(launch.job_id, launch.run_id) for launch in launches}) == len(identities)


HYDRA = {"PMI_SIZE": "4", "MPI_LOCALNRANKS": "2", "PBS_JOBID": "8.head"}


def test_ranks_of_mpich_on_two_nodes_find_one_id(monkeypatch):
    """Each node has a proxy of its own, which is the parent of the ranks there."""
    ids = set()
    for rank, proxy in enumerate((1, 1, 2, 2)):
        monkeypatch.setattr(os, "getppid", lambda proxy=proxy: proxy)
        launch = detect_launch({**HYDRA, "PMI_RANK": str(rank)}, "bert")
        ids.add(launch.run_id)
        assert launch.nodes == 2
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("environment", "nodes"),
    [
        ({"GROUP_WORLD_SIZE": "2"}, 2),
        (torchrun(0), 2),
        ({"SLURM_JOB_NUM_NODES": "16"}, 16),
        ({"WORLD_SIZE": "many"}, 1),
    ],
)
def test_nodes_are_counted_as_the_launcher_says(environment, nodes):
    assert detect_launch(environment, "").nodes == nodes


@pytest.mark.parametrize(
    ("environment", "run_id"),
    [
        ({"EMISSIONS_RUN_ID": "mine", "WANDB_RUN_ID": "w"}, "mine"),
        ({"EMISSIONS_RUN_ID": "ours", "EMISSIONS_TRACKED": "ours", "WANDB_RUN_ID": "w"}, "w"),
        ({"EMISSIONS_RUN_ID": "ours", "EMISSIONS_TRACKED": "ours"}, ""),
        ({"MLFLOW_RUN_ID": "m", "EMISSIONS_TRACKED": "inner,m"}, ""),
        ({"MLFLOW_RUN_ID": "m", "EMISSIONS_TRACKED": "inner,m2"}, "m"),
        ({"EMISSIONS_RUN_ID": "a,b", "EMISSIONS_TRACKED": "a,b,c"}, ""),
        ({"TORCHELASTIC_RUN_ID": "none"}, ""),
        ({"TORCHELASTIC_RUN_ID": "elastic"}, "elastic"),
        ({"MLFLOW_RUN_ID": "m", "WANDB_RUN_ID": "w"}, "m"),
    ],
)
def test_an_id_counts_if_it_is_from_outside(environment, run_id):
    assert detect_launch(environment, "").run_id == run_id
