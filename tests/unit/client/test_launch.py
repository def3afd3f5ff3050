"""Who a process is in its launch, by its environment."""

import os

import pytest

from exporter.client.launch import launch_of


def test_a_program_alone_leaves_its_id_to_the_daemon():
    assert launch_of({}, "bert") == (0, 0, 1, 1, "", "")


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
    ids = {launch_of(torchrun(rank), "bert").run_id for rank in range(8)}
    assert len(ids) == 1
    assert ids.pop().startswith("bert-")


def test_another_launch_finds_another_id():
    first, second = torchrun(0), torchrun(0, MASTER_PORT="29501")
    assert launch_of(first, "bert").run_id != launch_of(second, "bert").run_id


def test_on_one_node_the_parent_tells_launches_apart(monkeypatch):
    alone = torchrun(0, LOCAL_WORLD_SIZE="8")
    first = launch_of(alone, "bert").run_id
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert launch_of(alone, "bert").run_id != first


def test_a_job_of_a_scheduler_tells_launches_apart_on_many_nodes():
    job = torchrun(0, SLURM_JOB_ID="17", SLURM_STEP_ID="0")
    other_node = {**job, "MASTER_ADDR": "seen otherwise"}
    assert launch_of(job, "").run_id == launch_of(other_node, "").run_id
    assert launch_of(job, "").job_id == "17"


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
    assert launch_of(environment, "").nodes == nodes


@pytest.mark.parametrize(
    ("environment", "run_id"),
    [
        ({"EMISSIONS_RUN_ID": "mine", "WANDB_RUN_ID": "w"}, "mine"),
        ({"EMISSIONS_RUN_ID": "ours", "EMISSIONS_TRACKED": "ours", "WANDB_RUN_ID": "w"}, "w"),
        ({"EMISSIONS_RUN_ID": "ours", "EMISSIONS_TRACKED": "ours"}, ""),
        ({"TORCHELASTIC_RUN_ID": "none"}, ""),
        ({"TORCHELASTIC_RUN_ID": "elastic"}, "elastic"),
        ({"MLFLOW_RUN_ID": "m", "WANDB_RUN_ID": "w"}, "m"),
    ],
)
def test_an_id_counts_if_it_is_from_outside(environment, run_id):
    assert launch_of(environment, "").run_id == run_id
