"""Detecting jobs by their environment, for all supported schedulers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.attribute.identity import RunClaim, claim_from_environment
from exporter.attribute.run_registry import RunRegistry
from exporter.model.runs import RunInfo, RunKey


def block(**variables):
    return "".join(f"{name}={value}\0" for name, value in variables.items()).encode()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (
            {"SLURM_JOB_ID": "17", "SLURM_JOB_NAME": "train", "SLURM_JOB_ACCOUNT": "physics"},
            RunClaim("17", "17", "train", (), "physics", "slurm"),
        ),
        (
            {"SLURM_JOB_ID": "19", "SLURM_ARRAY_JOB_ID": "18", "SLURM_ARRAY_TASK_ID": "0"},
            RunClaim("19", "19", "", (("array_job", "18"), ("array_task", "0")), "", "slurm"),
        ),
        (
            {"PBS_JOBID": "8.head", "PBS_JOBNAME": "fit"},
            RunClaim("8.head", "8.head", "fit", (), "", "pbs"),
        ),
        (
            {"PBS_JOBID": "8[3].head", "PBS_ARRAY_INDEX": "3"},
            RunClaim("8[3].head", "8[3].head", "", (("array_task", "3"),), "", "pbs"),
        ),
        (
            {"LSB_JOBID": "5", "LSB_JOBINDEX": "0", "LSB_JOBNAME": "fit"},
            RunClaim("5", "5", "fit", (), "", "lsf"),
        ),
        (
            {"LSB_JOBID": "5", "LSB_JOBINDEX": "2"},
            RunClaim("5[2]", "5[2]", "", (("array_task", "2"),), "", "lsf"),
        ),
        (
            {"JOB_ID": "9", "SGE_TASK_ID": "undefined", "JOB_NAME": "fit"},
            RunClaim("9", "9", "fit", (), "", "sge"),
        ),
        (
            {"JOB_ID": "9", "SGE_TASK_ID": "4"},
            RunClaim("9[4]", "9[4]", "", (("array_task", "4"),), "", "sge"),
        ),
        ({"FLUX_JOB_ID": "f3ETxsR9H"}, RunClaim("f3ETxsR9H", "f3ETxsR9H", origin="flux")),
        ({"FLUX_JOB_ID": "ƒ3ETxsR9H"}, RunClaim("ƒ3ETxsR9H", "ƒ3ETxsR9H", origin="flux")),
        (
            {"PBS_JOBID": "1098[0].head", "PBS_ARRAYID": "0"},
            RunClaim("1098[0].head", "1098[0].head", "", (("array_task", "0"),), "", "pbs"),
        ),
        (
            {"PBS_JOBID": "1098-3.head", "PBS_ARRAYID": "3"},
            RunClaim("1098-3.head[3]", "1098-3.head[3]", "", (("array_task", "3"),), "", "pbs"),
        ),
        (
            {"LSB_JOBID": "12345", "LSB_JOBINDEX": "3"},
            RunClaim("12345[3]", "12345[3]", "", (("array_task", "3"),), "", "lsf"),
        ),
        (
            {"JOB_ID": "4711", "SGE_TASK_ID": "1"},
            RunClaim("4711[1]", "4711[1]", "", (("array_task", "1"),), "", "sge"),
        ),
        (
            {"OAR_JOB_ID": "5362184", "OAR_JOB_NAME": "fit", "OAR_PROJECT_NAME": "physics"},
            RunClaim("5362184", "5362184", "fit", (), "physics", "oar"),
        ),
        ({"RAY_JOB_ID": "01000000"}, RunClaim("01000000", "01000000", origin="ray")),
    ],
)
def test_a_job_is_identified_by_its_environment(variables, expected):
    assert claim_from_environment(block(**variables)) == expected


def test_an_ambiguous_job_id_variable_requires_another_variable():
    assert claim_from_environment(block(JOB_ID="9")) is None


def test_a_run_in_a_job_keeps_its_own_id_and_the_job_of_the_scheduler():
    claim = claim_from_environment(
        block(EMISSIONS_RUN_ID="bert", SLURM_JOB_ID="17", SLURM_JOB_NAME="train")
    )
    assert claim is not None
    assert (claim.run_id, claim.job_id, claim.name, claim.origin) == (
        "bert",
        "17",
        "train",
        "environment",
    )


def test_emissions_job_id_takes_precedence_over_the_scheduler():
    claim = claim_from_environment(block(EMISSIONS_JOB_ID="mine", SLURM_JOB_ID="17"))
    assert claim is not None
    assert (claim.run_id, claim.job_id) == ("mine", "mine")


def test_the_daemon_does_not_own_the_machine_for_its_scheduler_job():
    assert claim_from_environment(block(SLURM_JOB_ID="17"), with_jobs=False) is None


ARRAYS = {
    # id, index, index of what is no array, how the id of a task is written
    "lsf": ("LSB_JOBID", "LSB_JOBINDEX", "0", "{job}"),
    "sge": ("JOB_ID", "SGE_TASK_ID", "undefined", "{job}"),
    "pbs": ("PBS_JOBID", "PBS_ARRAY_INDEX", "", "{job}[{task}].head"),
    "torque": ("PBS_JOBID", "PBS_ARRAYID", "", "{job}[{task}].torque"),
    "torque 2": ("PBS_JOBID", "PBS_ARRAYID", "", "{job}-{task}.torque"),
}
"""From the manuals of the schedulers. Tasks of other schedulers have their own ids."""
ALONE = {"slurm": "SLURM_JOB_ID", "flux": "FLUX_JOB_ID", "oar": "OAR_JOB_ID", "ray": "RAY_JOB_ID"}
NUMBERS = st.integers(1, 30) | st.integers(1, 1 << 32)
JOBS = st.tuples(st.sampled_from(list(ARRAYS)), NUMBERS, st.none() | NUMBERS) | st.tuples(
    st.sampled_from(list(ALONE)), NUMBERS, st.none()
)


def environment_of(scheduler, job, task):
    if scheduler in ALONE:
        return {ALONE[scheduler]: str(job)}
    name, index, no_task, written = ARRAYS[scheduler]
    if task is None:
        return {name: str(job), index: no_task} if no_task else {name: f"{job}.{scheduler}"}
    return {name: written.format(job=job, task=task), index: str(task)}


def run_of(book, identity):
    claim = claim_from_environment(block(**environment_of(*identity)))
    key = RunKey(7, claim.run_id, claim.job_id)
    return book.open(RunInfo(key, "", "ada", claim.origin, 0.0, labels=claim.labels)).key


@given(jobs=st.lists(JOBS, min_size=2, max_size=6, unique=True))
def test_each_task_of_each_job_of_each_scheduler_is_a_run_of_its_own(jobs):
    book = RunRegistry([], 100)
    keys = [run_of(book, job) for job in jobs]
    assert len(set(keys)) == len(jobs)
    assert [run_of(book, job) for job in jobs] == keys


def test_equal_job_ids_of_two_schedulers_are_two_runs_also_after_a_restart(host):
    for pid, name in ((10, "SLURM_JOB_ID"), (11, "LSB_JOBID")):
        host.proc.process(pid, environment=f"{name}=17")
    host.look()
    host.proc.process(12, environment="LSB_JOBID=17")
    host.restart()
    host.look()
    assert host.running() == {"17", "lsf:17"}
    host.proc.process(12, environment="LSB_JOBID=17", own=5)
    assert host.look() == {"17": 0, "lsf:17": 5}
