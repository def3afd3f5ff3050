"""Boot ids."""

import pytest

from exporter.clock import UNKNOWN_BOOT, read_boot_id
from tests.fakes import FakeClock


@pytest.fixture
def kernel(tmp_path):
    """Path of the boot id in a procfs."""
    directory = tmp_path / "sys/kernel/random"
    directory.mkdir(parents=True)
    return directory


def test_boot_id_is_read_from_procfs(tmp_path, kernel):
    (kernel / "boot_id").write_text("11111111-2222\n")
    assert read_boot_id(str(tmp_path), FakeClock()) == "11111111-2222"


@pytest.mark.parametrize("content", [None, b"", b"\xff\n"])
def test_unknown_boot_gets_a_new_id_each_time(tmp_path, kernel, content):
    if content is not None:
        (kernel / "boot_id").write_bytes(content)
    clock = FakeClock()
    first = read_boot_id(str(tmp_path), clock)
    clock.advance(1)
    second = read_boot_id(str(tmp_path), clock)
    assert first.startswith(UNKNOWN_BOOT)
    assert second.startswith(UNKNOWN_BOOT)
    assert first != second
