"""Resource usage of the daemon itself."""

import os

from exporter.expose.process_collector import ProcessCollector


def fake(tmp_path, stat, boot="cpu 1 2\nbtime 1000\n"):
    own = tmp_path / "self"
    (own / "fd").mkdir(parents=True)
    for number in range(4):
        (own / "fd" / str(number)).write_text("")
    (own / "stat").write_text(stat)
    (tmp_path / "stat").write_text(boot)
    return ProcessCollector(str(tmp_path)).read()


def test_fields_are_parsed_after_an_odd_process_name(tmp_path):
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    fields = ["0"] * 50
    fields[11], fields[12], fields[19], fields[21] = str(2 * ticks), str(ticks), str(5 * ticks), "7"
    state = fake(tmp_path, f"42 (a) b (c)) {' '.join(fields)}\n")
    assert state.cpu_seconds == 3.0
    assert state.resident_bytes == 7 * page
    assert state.started == 1005.0
    assert state.open_fds == 3


def test_without_procfs_there_is_no_process_state(tmp_path):
    assert ProcessCollector(str(tmp_path)).read() is None


def test_this_process_can_be_read():
    state = ProcessCollector().read()
    assert state.resident_bytes > 1_000_000
    assert state.open_fds == len(os.listdir("/proc/self/fd")) - 1
    assert state.started > 1_600_000_000
