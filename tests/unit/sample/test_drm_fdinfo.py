"""Activity of processes by fdinfo; format of Documentation/gpu/drm-usage-stats.rst of Linux."""

import errno
import os

import pytest

from exporter.sample.sources.drm_fdinfo import (
    DrmClient,
    DrmFdinfoReader,
    EngineTime,
    parse_fdinfo,
)
from tests.amdgpu.host import AmdHost

SECOND_NS = 1_000_000_000
CARD, OTHER_CARD = "0000:03:00.0", "0000:04:00.0"


def amd(client=7, pdev=CARD, **engines_ns):
    lines = ["pos:\t0", "flags:\t02100002", "drm-driver:\tamdgpu", f"drm-client-id:\t{client}"]
    lines += [f"drm-pdev:\t{pdev}", "drm-memory-vram:\t12 KiB"]
    lines += [f"drm-engine-{name}:\t{ns} ns" for name, ns in engines_ns.items()]
    return "\n".join(lines) + "\n"


def xe(cycles, total, capacity=1):
    return (
        f"drm-driver:\txe\ndrm-client-id:\t9\ndrm-pdev:\t{CARD}\ndrm-cycles-rcs:\t{cycles}\n"
        f"drm-total-cycles-rcs:\t{total}\ndrm-engine-capacity-rcs:\t{capacity}\n"
    )


class TestParse:
    def test_engines_in_nanoseconds(self):
        client = parse_fdinfo(amd(gfx=123_456_789, dec=1000))
        engines = {"gfx": EngineTime(123_456_789), "dec": EngineTime(1000)}
        assert client == DrmClient(CARD, "7", "amdgpu", engines)

    def test_capacity_is_no_engine(self):
        client = parse_fdinfo(
            f"drm-client-id: 1\ndrm-pdev: {CARD}\ndrm-engine-video: 10 ns\n"
            "drm-engine-capacity-video: 2\n"
        )
        assert client.engines == {"video": EngineTime(10, None, 2)}

    def test_cycles_with_those_of_the_engine(self):
        assert parse_fdinfo(xe(500, 1000, 2)).engines == {"rcs": EngineTime(500, 1000, 2)}

    def test_cycles_without_those_of_the_engine_are_not_used(self):
        text = f"drm-client-id: 1\ndrm-pdev: {CARD}\ndrm-cycles-ccs: 5\n"
        assert parse_fdinfo(text).engines == {}

    def test_cycles_take_precedence_over_nanoseconds(self):
        text = xe(500, 1000) + "drm-engine-rcs:\t77 ns\n"
        assert parse_fdinfo(text).engines == {"rcs": EngineTime(500, 1000)}

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "pos:\t0\nflags:\t02\n",
            f"drm-pdev:\t{CARD}\n",
            "drm-driver:\tpanfrost\ndrm-client-id:\t3\ndrm-engine-fragment:\t1 ns\n",
            # amdgpu before Linux 5.19: Umio-Yasuno/amdgpu_top issue 132
            f"pdev:\t{CARD}\npasid:\t32769\ngfx0:\t12.50%\n",
        ],
    )
    def test_other_files_are_no_clients(self, text):
        assert parse_fdinfo(text) is None

    def test_values_that_are_no_numbers_are_ignored(self):
        assert parse_fdinfo(amd(gfx="many")).engines == {}


@pytest.fixture
def host(tmp_path):
    return AmdHost(tmp_path)


@pytest.fixture
def reader(host, clock):
    return DrmFdinfoReader(str(host.procfs), clock)


def activity(users):
    return {(user.pid, user.pdev): dict(user.active) for user in users.users}


class TestPoll:
    def test_activity_is_the_time_between_two_polls(self, host, reader, clock):
        host.client(100, 5, amd(gfx=1 * SECOND_NS, compute=0))
        assert activity(reader.poll()) == {(100, CARD): {}}
        clock.advance(5)
        host.client(100, 5, amd(gfx=3 * SECOND_NS, compute=1 * SECOND_NS))
        assert activity(reader.poll()) == {(100, CARD): {"gfx": 0.4, "compute": 0.2}}

    def test_descriptors_of_one_client_count_once(self, host, reader, clock):
        """As after dup, and in a child that inherited it."""
        for pid, fd in ((100, 5), (100, 6), (101, 5)):
            host.client(pid, fd, amd(gfx=0))
        reader.poll()
        clock.advance(5)
        for pid, fd in ((100, 5), (100, 6), (101, 5)):
            host.client(pid, fd, amd(gfx=SECOND_NS))
        assert activity(reader.poll()) == {(100, CARD): {"gfx": 0.2}}

    def test_client_stays_with_the_process_that_had_it_first(self, host, reader, clock):
        host.client(101, 5, amd(gfx=0))
        reader.poll()
        clock.advance(5)
        host.client(100, 5, amd(gfx=SECOND_NS))
        host.client(101, 5, amd(gfx=SECOND_NS))
        assert activity(reader.poll()) == {(101, CARD): {"gfx": 0.2}}

    def test_clients_with_one_number_on_two_cards_are_two(self, host, reader):
        host.client(100, 5, amd(pdev=CARD, gfx=1))
        host.client(100, 6, amd(pdev=OTHER_CARD, gfx=1))
        assert len(reader.poll().users) == 2

    def test_value_that_steps_back_is_no_activity(self, host, reader, clock):
        for busy_ns, active in ((9 * SECOND_NS, None), (8 * SECOND_NS, 0.0), (10 * SECOND_NS, 0.2)):
            host.client(100, 5, amd(gfx=busy_ns))
            (user,) = reader.poll().users
            assert user.active.get("gfx") == active
            clock.advance(5)

    def test_engine_that_appears_later_had_not_worked(self, host, reader, clock):
        """Drivers omit engines that a client has not used."""
        host.client(100, 5, amd())
        (user,) = reader.poll().users
        assert not user.has_worked
        clock.advance(5)
        host.client(100, 5, amd(gfx=SECOND_NS))
        (user,) = reader.poll().users
        assert user.has_worked
        assert user.active == {"gfx": 0.2}

    def test_cycles_are_compared_with_those_of_all_engines_of_the_class(self, host, reader, clock):
        host.client(100, 5, xe(1_000, 10_000, capacity=2))
        reader.poll()
        clock.advance(5)
        host.client(100, 5, xe(2_000, 20_000, capacity=2))
        assert activity(reader.poll()) == {(100, CARD): {"rcs": 0.05}}

    def test_activity_is_at_most_1(self, host, reader, clock):
        host.client(100, 5, amd(gfx=0))
        reader.poll()
        clock.advance(1)
        host.client(100, 5, amd(gfx=3 * SECOND_NS))
        assert activity(reader.poll()) == {(100, CARD): {"gfx": 1.0}}

    def test_other_descriptors_are_not_read(self, host, reader):
        host.client(100, 5, amd(gfx=1), target="/dev/null")
        assert reader.poll().users == ()

    def test_descriptors_of_unwanted_cards_are_not_read(self, host, clock):
        reader = DrmFdinfoReader(
            str(host.procfs), clock, is_wanted={"card1", "renderD128"}.__contains__
        )
        host.client(100, 4, amd(client=1, gfx=1))
        host.client(100, 5, amd(client=2, gfx=1), target="/dev/dri/renderD129")
        host.client(100, 6, amd(client=3, gfx=1), target="/dev/dri/card1")
        assert len(reader.poll().users) == 2

    def test_gpu_that_a_process_opens_later_is_found(self, host, reader, clock):
        host.client(100, 5, "pos:\t0\n", target="/dev/null")
        reader.poll()
        host.client(100, 6, amd(gfx=1))
        clock.advance(4)
        assert reader.poll().users == ()  # its descriptors are listed again after 5 s
        clock.advance(2)
        assert [user.pid for user in reader.poll().users] == [100]

    def test_descriptors_of_old_processes_are_listed_rarely(self, host, reader, clock, monkeypatch):
        host.client(100, 5, amd(gfx=1))
        listed = []
        real = os.listdir
        monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or real(path))
        for _ in range(600):
            reader.poll()
            clock.advance(1)
        assert sum(path.endswith("/fd") for path in listed) <= 5 + 600 / 60

    def test_process_that_ends_is_gone(self, host, reader, clock):
        host.client(100, 5, amd(gfx=1))
        reader.poll()
        (host.procfs / "100/fdinfo/5").unlink()
        clock.advance(1)
        assert reader.poll().users == ()

    def test_descriptor_that_may_not_be_listed_is_counted(self, host, reader, monkeypatch):
        host.client(100, 5, amd(gfx=1))
        host.client(101, 5, amd(client=8, gfx=1))
        real = os.listdir

        def guarded(path):
            if path.endswith("/100/fd"):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return real(path)

        monkeypatch.setattr(os, "listdir", guarded)
        users = reader.poll()
        assert ([user.pid for user in users.users], users.hidden) == ([101], 1)

    def test_procfs_that_cannot_be_listed_is_an_error(self, tmp_path, clock):
        with pytest.raises(FileNotFoundError):
            DrmFdinfoReader(str(tmp_path / "none"), clock).poll()
