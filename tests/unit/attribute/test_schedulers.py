"""Jobs by their environment, for every scheduler of the table."""

import pytest

from exporter.attribute.identity import Claim, claim_of


def block(**variables):
    return "".join(f"{name}={value}\0" for name, value in variables.items()).encode()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (
            {"SLURM_JOB_ID": "17", "SLURM_JOB_NAME": "train", "SLURM_JOB_ACCOUNT": "physics"},
            Claim("17", "17", "train", (), "physics", "slurm"),
        ),
        (
            {"SLURM_JOB_ID": "19", "SLURM_ARRAY_JOB_ID": "18", "SLURM_ARRAY_TASK_ID": "0"},
            Claim("19", "19", "", (("array_job", "18"), ("array_task", "0")), "", "slurm"),
        ),
        (
            {"PBS_JOBID": "8.head", "PBS_JOBNAME": "fit"},
            Claim("8.head", "8.head", "fit", (), "", "pbs"),
        ),
        (
            {"PBS_JOBID": "8[3].head", "PBS_ARRAY_INDEX": "3"},
            Claim("8[3].head", "8[3].head", "", (("array_task", "3"),), "", "pbs"),
        ),
        (
            {"LSB_JOBID": "5", "LSB_JOBINDEX": "0", "LSB_JOBNAME": "fit"},
            Claim("5", "5", "fit", (), "", "lsf"),
        ),
        (
            {"LSB_JOBID": "5", "LSB_JOBINDEX": "2"},
            Claim("5[2]", "5[2]", "", (("array_task", "2"),), "", "lsf"),
        ),
        (
            {"JOB_ID": "9", "SGE_TASK_ID": "undefined", "JOB_NAME": "fit"},
            Claim("9", "9", "fit", (), "", "sge"),
        ),
        (
            {"JOB_ID": "9", "SGE_TASK_ID": "4"},
            Claim("9[4]", "9[4]", "", (("array_task", "4"),), "", "sge"),
        ),
        ({"FLUX_JOB_ID": "f3ETxsR9H"}, Claim("f3ETxsR9H", "f3ETxsR9H", origin="flux")),
        ({"RAY_JOB_ID": "01000000"}, Claim("01000000", "01000000", origin="ray")),
    ],
)
def test_a_job_is_known_by_its_environment(variables, expected):
    assert claim_of(block(**variables)) == expected


def test_a_job_id_that_any_program_may_use_says_nothing_alone():
    assert claim_of(block(JOB_ID="9")) is None


def test_a_run_in_a_job_keeps_its_own_id_and_the_job_of_the_scheduler():
    claim = claim_of(block(EMISSIONS_RUN_ID="bert", SLURM_JOB_ID="17", SLURM_JOB_NAME="train"))
    assert claim is not None
    assert (claim.run_id, claim.job_id, claim.name, claim.origin) == (
        "bert",
        "17",
        "train",
        "environment",
    )


def test_a_job_id_of_ours_goes_before_that_of_the_scheduler():
    claim = claim_of(block(EMISSIONS_JOB_ID="mine", SLURM_JOB_ID="17"))
    assert claim is not None
    assert (claim.run_id, claim.job_id) == ("mine", "mine")


def test_the_daemon_takes_no_machine_for_a_job_that_it_was_started_in():
    assert claim_of(block(SLURM_JOB_ID="17"), with_jobs=False) is None
