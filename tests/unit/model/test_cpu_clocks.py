"""The machine's clocks out of the text of /proc/stat."""

import pytest

from exporter.model.books import MachineCpu
from exporter.model.cpu_clocks import parse_cpu_clocks


def test_waiting_is_not_busy_and_stolen_time_is_none():
    stat = b"cpu  1 2 4 8 16 32 64 128 1 1\ncpu0 9 9 9 9 9 9 9 9 9 9\n"
    assert parse_cpu_clocks(stat, 10) == MachineCpu(busy_us=1030, total_us=1270)


@pytest.mark.parametrize("stat", [b"", b"cpu 1 2 3\n", b"intr 1 2 3 4 5 6 7 8 9\n"])
def test_any_other_text_is_refused(stat):
    with pytest.raises(ValueError, match="CPU times"):
        parse_cpu_clocks(stat, 10)
