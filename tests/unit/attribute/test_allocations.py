"""What the prolog wrote down of jobs, and who may have written it."""

import os

import pytest

from exporter.attribute.sources.allocations import Allocation, Allocations, parse

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


def test_a_file_says_whose_a_job_is_and_what_it_was_given():
    assert parse(FULL) == Allocation(
        "17",
        1000,
        "ada",
        "physics",
        "train",
        2,
        ("GPU-1", "GPU-2"),
        (("array_job", "16"), ("array_task", "3")),
    )


def test_what_a_scheduler_does_not_know_may_be_left_out():
    assert parse(b"job_id=17\nuid=5\ngpus=\n") == Allocation("17", 5)


@pytest.mark.parametrize(
    "content", [b"", b"job_id=17\n", b"uid=5\n", b"job_id=17\nuid=me\n", b"\xff"]
)
def test_a_file_without_job_or_user_is_no_allocation(content):
    with pytest.raises(ValueError, match="not both there"):
        parse(content)


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "jobs"
    path.mkdir()
    return path


def test_jobs_come_and_go_with_their_files(directory):
    allocations = Allocations(str(directory))
    assert allocations.look() == {}
    (directory / "17").write_bytes(FULL)
    assert list(allocations.look()) == ["17"]
    (directory / "17").unlink()
    assert allocations.look() == {}


def test_a_directory_that_is_not_there_has_no_jobs(tmp_path):
    assert Allocations(str(tmp_path / "none")).look() == {}


def test_a_file_that_is_being_written_is_not_read(directory):
    (directory / ".17.99").write_bytes(FULL)
    assert Allocations(str(directory)).look() == {}


def test_junk_is_said_once_and_the_others_count(directory, caplog):
    (directory / "17").write_bytes(FULL)
    (directory / "18").write_bytes(b"\x00junk")
    allocations = Allocations(str(directory))
    assert list(allocations.look()) == ["17"]
    (directory / "19").write_bytes(FULL.replace(b"17", b"19"))
    assert list(allocations.look()) == ["17", "19"]
    assert caplog.text.count("/18 is not used: job_id and uid are not both there") == 1


def test_a_file_that_comes_in_the_same_moment_as_the_one_before_is_found(directory):
    (directory / "17").write_bytes(FULL)
    moment = os.stat(directory).st_mtime_ns
    allocations = Allocations(str(directory))
    assert list(allocations.look()) == ["17"]
    (directory / "18").write_bytes(FULL.replace(b"17", b"18"))
    os.utime(directory, ns=(moment, moment))
    assert list(allocations.look()) == ["17", "18"]


def test_a_directory_that_stays_as_it_is_is_read_no_more(directory):
    allocations = Allocations(str(directory))
    allocations.look()
    allocations.look()
    moment = os.stat(directory).st_mtime_ns
    (directory / "17").write_bytes(FULL)
    os.utime(directory, ns=(moment, moment))
    assert allocations.look() == {}


def test_of_a_file_that_went_and_came_back_as_junk_it_is_said_again(directory, caplog):
    allocations = Allocations(str(directory))
    for _ in range(2):
        (directory / "17").write_bytes(b"junk")
        allocations.look()
        (directory / "17").unlink()
        allocations.look()
    assert caplog.text.count("/17 is not used") == 2


@pytest.mark.parametrize("place", ["file", "directory"])
def test_what_anybody_could_have_written_is_not_believed(directory, caplog, place):
    (directory / "17").write_bytes(FULL)
    (directory if place == "directory" else directory / "17").chmod(0o777)
    assert Allocations(str(directory)).look() == {}
    assert "others than root could have written it" in caplog.text


def test_a_link_is_no_allocation(directory, tmp_path):
    (tmp_path / "elsewhere").write_bytes(FULL)
    os.symlink(tmp_path / "elsewhere", directory / "17")
    assert Allocations(str(directory)).look() == {}
