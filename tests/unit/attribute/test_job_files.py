"""Job files of the prolog, and the check of their owner and mode."""

import os
import subprocess
from pathlib import Path

import pytest

from exporter.attribute.sources import job_files as source
from exporter.attribute.sources.job_files import JobAllocation, JobFiles, parse_job_file

SCRIPTS = Path(__file__).parents[3] / "deploy" / "slurm"
FULL = b"""job_id=17
array_job_id=16
array_task_id=3
uid=1000
user=ada
account=physics
name=train
nodes=2
gpus=GPU-1,GPU-2
"""


def test_a_job_file_has_user_and_allocation():
    assert parse_job_file(FULL) == JobAllocation(
        "17",
        1000,
        "ada",
        "physics",
        "train",
        2,
        ("GPU-1", "GPU-2"),
        (("array_job", "16"), ("array_task", "3")),
    )


def test_optional_fields_may_be_missing():
    assert parse_job_file(b"job_id=17\nuid=5\ngpus=\n") == JobAllocation("17", 5)


@pytest.mark.parametrize(
    "content", [b"", b"job_id=17\n", b"uid=5\n", b"job_id=17\nuid=me\n", b"\xff"]
)
def test_a_file_without_job_or_user_is_no_allocation(content):
    with pytest.raises(ValueError, match="job_id or uid is missing"):
        parse_job_file(content)


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "jobs"
    path.mkdir()
    return path


def test_jobs_come_and_go_with_their_files(directory):
    allocations = JobFiles(str(directory))
    assert allocations.collect() == {}
    (directory / "17").write_bytes(FULL)
    assert list(allocations.collect()) == ["17"]
    (directory / "17").unlink()
    assert allocations.collect() == {}


def test_a_missing_directory_has_no_jobs(tmp_path):
    assert JobFiles(str(tmp_path / "none")).collect() == {}


def test_a_file_that_is_being_written_is_not_read(directory):
    (directory / ".17.99").write_bytes(FULL)
    assert JobFiles(str(directory)).collect() == {}


def test_an_invalid_file_is_logged_once_and_the_others_are_used(directory, caplog):
    (directory / "17").write_bytes(FULL)
    (directory / "18").write_bytes(b"\x00junk")
    allocations = JobFiles(str(directory))
    assert list(allocations.collect()) == ["17"]
    (directory / "19").write_bytes(FULL.replace(b"17", b"19"))
    assert list(allocations.collect()) == ["17", "19"]
    (record,) = caplog.records
    assert record.getMessage() == "job file not used"
    assert record.path == str(directory / "18")
    assert record.error == "job_id or uid is missing or invalid"


def test_a_file_with_the_same_timestamp_as_the_previous_one_is_found(directory):
    (directory / "17").write_bytes(FULL)
    moment = os.stat(directory).st_mtime_ns
    allocations = JobFiles(str(directory))
    assert list(allocations.collect()) == ["17"]
    (directory / "18").write_bytes(FULL.replace(b"17", b"18"))
    os.utime(directory, ns=(moment, moment))
    assert list(allocations.collect()) == ["17", "18"]


def test_an_unchanged_directory_is_not_read_again(directory):
    allocations = JobFiles(str(directory))
    allocations.collect()
    allocations.collect()
    moment = os.stat(directory).st_mtime_ns
    (directory / "17").write_bytes(FULL)
    os.utime(directory, ns=(moment, moment))
    assert allocations.collect() == {}


def test_an_invalid_file_that_returns_is_logged_again(directory, caplog):
    allocations = JobFiles(str(directory))
    for _ in range(2):
        (directory / "17").write_bytes(b"junk")
        allocations.collect()
        (directory / "17").unlink()
        allocations.collect()
    assert [record.path for record in caplog.records] == [str(directory / "17")] * 2


@pytest.mark.parametrize("place", ["file", "directory"])
def test_a_world_writable_file_is_not_used(directory, caplog, place):
    (directory / "17").write_bytes(FULL)
    (directory if place == "directory" else directory / "17").chmod(0o777)
    assert JobFiles(str(directory)).collect() == {}
    assert "others than root could have written it" in caplog.records[-1].error


def test_a_symbolic_link_is_ignored(directory, tmp_path):
    (tmp_path / "elsewhere").write_bytes(FULL)
    os.symlink(tmp_path / "elsewhere", directory / "17")
    assert JobFiles(str(directory)).collect() == {}


PROLOG = {
    "SLURM_JOB_ID": "42",
    "SLURM_JOB_UID": "1000",
    "SLURM_JOB_USER": "ada",
    "SLURM_JOB_ACCOUNT": "physics",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_JOB_SLUID": "s5K1KKYAYG5D00",
    "SLURM_JOB_END_TIME": "1790000000",
}
"""Set as by prep_script_slurmd.c of Slurm 26.11, without PATH."""


def script(name, directory, **environment):
    environment = {**PROLOG, "EMISSIONS_JOBS_DIRECTORY": str(directory), **environment}
    subprocess.run([SCRIPTS / name], env=environment, check=True)


def test_the_prolog_writes_the_job_file_and_the_epilog_removes_it(tmp_path):
    directory = tmp_path / "jobs"
    script("prolog.sh", directory)
    job = JobFiles(str(directory)).collect()["42"]
    assert job[:6] == ("42", 1000, "ada", "physics", "", 2)
    assert (job.sluid, job.end_time) == ("s5K1KKYAYG5D00", 1_790_000_000)
    assert job.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    script("epilog.sh", directory)
    assert JobFiles(str(directory)).collect() == {}


def test_job_files_of_an_older_slurm_are_read(tmp_path):
    script("prolog.sh", tmp_path / "jobs", SLURM_JOB_SLUID="", SLURM_JOB_END_TIME="")
    job = JobFiles(str(tmp_path / "jobs")).collect()["42"]
    assert (job.sluid, job.end_time) == ("", 0)


@pytest.mark.parametrize("uid", [b"4294967296", b"-1", "\u0661".encode(), b"1" * 5000])
def test_an_out_of_range_uid_is_rejected(uid):
    with pytest.raises(ValueError, match="job_id or uid is missing"):
        parse_job_file(FULL.replace(b"1000", uid))


def test_an_unreadable_file_keeps_its_last_content(directory, monkeypatch):
    (directory / "17").write_bytes(FULL)
    allocations = JobFiles(str(directory))
    allocations.collect()
    (directory / "17").write_bytes(FULL.replace(b"physics", b"biology"))
    (directory / "18").write_bytes(FULL.replace(b"17", b"18"))
    opened = open

    def fail(path, *arguments):
        if str(path).endswith("17"):
            raise OSError(5, "Input/output error", path)
        return opened(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", fail)
        assert allocations.collect()["17"].account == "physics"
        assert allocations.why.startswith(f"{directory}/17: Input/output error; ")
    assert allocations.collect()["17"].account == "biology"
    assert allocations.why == ""


def test_files_beyond_the_limit_are_reported(directory, monkeypatch):
    monkeypatch.setattr(source, "MAX_FILES", 1)
    for job_id in (b"17", b"18"):
        (directory / job_id.decode()).write_bytes(FULL.replace(b"17", job_id))
    allocations = JobFiles(str(directory))
    assert list(allocations.collect()) == ["17"]
    assert "has 2 files, of which 1 are read" in allocations.why
    (directory / "17").unlink()
    assert list(allocations.collect()) == ["18"]
    assert allocations.why == ""


@pytest.mark.parametrize("name", ["loop", "file", "file/below"])
def test_an_invalid_directory_has_no_jobs_and_the_reason_is_reported(tmp_path, name):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_bytes(FULL)
    allocations = JobFiles(str(tmp_path / name))
    assert allocations.collect() == {}
    assert allocations.why.startswith(f"{tmp_path / name}: ")


def test_a_world_writable_directory_is_reported_until_it_is_fixed(directory):
    (directory / "17").write_bytes(FULL)
    allocations = JobFiles(str(directory))
    directory.chmod(0o777)
    assert allocations.collect() == {}
    assert str(directory) in allocations.why
    directory.chmod(0o755)
    assert list(allocations.collect()) == ["17"]
    assert allocations.why == ""
