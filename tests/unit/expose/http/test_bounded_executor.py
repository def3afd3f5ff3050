"""Bounded executors and the cache per tick."""

import asyncio
import threading

import pytest

from exporter.errors import RequestRefused
from exporter.expose.exposition import PublishedTick
from exporter.expose.http.bounded_executor import CLIENT, BoundedExecutor, TickCache

TICK, NEXT = (PublishedTick(None, None, number) for number in (1, 2))


@pytest.fixture
def gate():
    gate = threading.Event()
    yield gate
    gate.set()


def in_event_loop(talk, **limits):
    """Run `talk(executor)` in an event loop."""

    async def conversation():
        executor = BoundedExecutor("questions", **{"threads": 1, "most": 2, **limits})
        try:
            return await talk(executor)
        finally:
            executor.close()

    return asyncio.run(conversation())


def test_work_is_done_in_another_thread():
    worker = in_event_loop(lambda executor: executor.run(threading.current_thread, 10))
    assert worker is not threading.current_thread()


def test_what_work_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        in_event_loop(lambda executor: executor.run(lambda: 1 / 0, 10))


def test_work_beyond_the_limit_is_rejected(gate):
    async def talk(executor):
        executor.submit(gate.wait)
        executor.submit(gate.wait)
        with pytest.raises(RequestRefused, match="too many questions are waiting") as refused:
            executor.submit(gate.wait)
        return refused.value.status

    assert in_event_loop(talk) == 503


def test_one_client_has_a_share_of_the_limit_and_others_have_the_rest(gate):
    async def talk(executor):
        for client in ("a", "a", "b"):
            CLIENT.set(client)
            executor.submit(gate.wait)
        CLIENT.set("a")
        with pytest.raises(RequestRefused, match=r"questions of this client .* \(limit 2\)"):
            executor.submit(gate.wait)
        CLIENT.set("c")
        executor.submit(gate.wait)
        with pytest.raises(RequestRefused, match=r"too many questions are waiting \(limit 4\)"):
            executor.submit(gate.wait)

    in_event_loop(talk, most=4, most_of_client=2)


def test_abandoned_work_counts_until_it_is_finished(gate):
    async def talk(executor):
        with pytest.raises(TimeoutError):
            await executor.run(gate.wait, 0.001)
        with pytest.raises(RequestRefused):
            executor.submit(gate.wait)

    in_event_loop(talk, most=1)


def test_there_is_room_again_when_work_is_done(gate):
    async def talk(executor):
        first = executor.submit(gate.wait)
        gate.set()
        await first
        return await executor.run(lambda: "second", 10)

    assert in_event_loop(talk, most=1) == "second"


def test_concurrent_requests_share_one_result():
    made = []

    async def talk(executor):
        rendered = TickCache(executor)

        def make():
            made.append(1)
            return b"page"

        answers = [rendered.get(TICK, "text", make) for _ in range(5)]
        return await asyncio.gather(*answers)

    assert in_event_loop(talk) == [b"page"] * 5
    assert len(made) == 1


def test_a_cancelled_request_does_not_cancel_the_shared_result(gate):
    async def talk(executor):
        rendered = TickCache(executor)
        hasty, patient = (
            asyncio.create_task(rendered.get(TICK, "text", lambda: b"%d" % gate.wait()))
            for _ in range(2)
        )
        await asyncio.sleep(0)
        hasty.cancel()
        gate.set()
        return await patient

    assert in_event_loop(talk) == b"1"


def test_another_tick_or_name_is_computed_again():
    async def talk(executor):
        rendered = TickCache(executor)
        return [
            await rendered.get(tick, name, lambda text=text: text)
            for tick, name, text in [
                (TICK, "a", b"1"),
                (TICK, "b", b"2"),
                (TICK, "a", b"not made"),
                (NEXT, "a", b"3"),
            ]
        ]

    assert in_event_loop(talk) == [b"1", b"2", b"1", b"3"]


def test_a_failure_of_detached_work_is_logged(caplog):
    async def talk(executor):
        ended = asyncio.Event()

        def fail():
            raise ZeroDivisionError("a defect")

        executor.submit_detached(fail)
        for done in executor._open:
            done.add_done_callback(lambda _: ended.set())
        async with asyncio.timeout(20):
            await ended.wait()

    in_event_loop(talk)
    (record,) = [r for r in caplog.records if r.msg == "background work failed"]
    assert record.queue == "questions"
    assert "a defect" in caplog.text
