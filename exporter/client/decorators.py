"""Decorator that measures the body of functions, coroutines and generators."""

import functools
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager
from typing import Any

Function = Callable[..., Any]


def measure_calls(
    function: Function, measured: Callable[[], AbstractContextManager[Any]]
) -> Function:
    """Wrap a function so that each call runs inside the context manager `measured()`.

    A coroutine is measured until it returns. A generator, synchronous or asynchronous, is measured
    from its first requested value until it is exhausted or closed, including the work of its
    consumer in between.
    """
    import inspect

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with measured():
            return function(*args, **kwargs)

    @functools.wraps(function)
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        with measured():
            return await function(*args, **kwargs)

    @functools.wraps(function)
    def generator(*args: Any, **kwargs: Any) -> Any:
        with measured():
            return (yield from function(*args, **kwargs))

    @functools.wraps(function)
    async def async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        with measured():
            inner = function(*args, **kwargs)
            step = inner.__anext__()
            while True:
                try:
                    value = await step
                except StopAsyncIteration:
                    return
                try:
                    step = inner.asend((yield value))
                except GeneratorExit:
                    await inner.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001  as `yield from` does
                    step = inner.athrow(error)

    kinds = (
        (inspect.iscoroutinefunction, coroutine),
        (inspect.isgeneratorfunction, generator),
        (inspect.isasyncgenfunction, async_generator),
    )
    bodies = (function, getattr(function, "__call__", function))  # noqa: B004  of an object
    matching = (wrapper for is_kind, wrapper in kinds if any(map(is_kind, bodies)))
    return next(matching, call)
