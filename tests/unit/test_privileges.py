"""Capabilities of a process from /proc/PID/status."""

import pytest

from exporter.privileges import capabilities, missing_for_environments, read_capabilities

# The lines Cap* of proc_pid_status(5). Masks: all of Linux 6.x; what Docker gives root by default
# (moby, profiles "DefaultCapabilities": no CAP_SYS_PTRACE, no CAP_DAC_READ_SEARCH); none.
ALL = "000001ffffffffff"
DOCKER = "00000000a80425fb"
NONE = "0000000000000000"


def status(mask):
    return f"Name:\tx\nCapInh:\t{ALL}\nCapPrm:\t{ALL}\nCapEff:\t{mask}\nCapBnd:\t{ALL}\n"


@pytest.mark.parametrize(
    ("mask", "lacking"),
    [
        (ALL, ()),
        (DOCKER, ("CAP_SYS_PTRACE",)),
        ("0000000000080000", ("CAP_DAC_READ_SEARCH",)),
        ("0000000000080004", ()),
        ("0000000000000004", ("CAP_SYS_PTRACE",)),
        (NONE, ("CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH")),
    ],
)
def test_only_missing_capabilities_are_reported(mask, lacking):
    assert missing_for_environments(capabilities(status(mask))) == lacking


def test_an_unreadable_status_has_no_capabilities(tmp_path):
    assert read_capabilities(str(tmp_path)) == frozenset()
    assert capabilities("Name:\tx\n") == frozenset()


def test_capabilities_of_this_process_are_read(tmp_path):
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "status").write_text(status(DOCKER))
    assert read_capabilities(str(tmp_path)) == {"CAP_DAC_OVERRIDE"}
