"""`BlockingSungrowClient`: the client for scripts and notebooks that do without ``await``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from os import PathLike
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from sungrow_lib.client import SungrowClient
from sungrow_lib.errors import UsageError

_END: Final = object()

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def _asked(
    method: Callable[Concatenate[SungrowClient, Parameters], Awaitable[Result]],
) -> Callable[Concatenate[BlockingSungrowClient, Parameters], Result]:
    """Make a method that waits for what ``method`` returns."""

    @wraps(method)
    def wait(self: BlockingSungrowClient, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        async def ask() -> Result:
            return await method(self.client, *args, **kwargs)

        return self.portal.call(ask)

    return wait


def _iterated(
    method: Callable[Concatenate[SungrowClient, Parameters], AsyncGenerator[Result, None]],
) -> Callable[Concatenate[BlockingSungrowClient, Parameters], Iterator[Result]]:
    """Make a method that yields, one after the other, what ``method`` yields."""

    @wraps(method)
    def each(
        self: BlockingSungrowClient, /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Iterator[Result]:
        portal, source = self.portal, method(self.client, *args, **kwargs)

        async def following() -> Any:
            return await anext(source, _END)

        with self.begun(source):
            while source in self.sources and (item := portal.call(following)) is not _END:
                yield item

    return each


class BlockingSungrowClient:
    """Asks a server for readings; a context manager. Its methods are those of :class:`SungrowClient`.

    >>> with BlockingSungrowClient("https://sun.example.org", token) as client:
    ...     month = client.series("roof-1", frame=Frame.MONTH).to_pandas()

    It works in a notebook, too, where an event loop runs already: its own runs in a thread.

    Args:
        base_url: where the server is. Only https is accepted, except from this machine to itself.
        token: with the scope `read`.
        ca: certificate of a private authority to trust, PEM.
        timeout_s: longest wait for an answer.
        tries: how often a question is asked while the server is busy or out of reach.

    Raises:
        UsageError: the address would carry the token in clear text, the token is none, or ``ca`` cannot be
            read.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        ca: str | PathLike[str] | None = None,
        timeout_s: float = 30.0,
        tries: int = 3,
    ) -> None:
        self.client = SungrowClient(base_url, token, ca=ca, timeout_s=timeout_s, tries=tries)
        self._open: ExitStack | None = None
        self._portal: BlockingPortal | None = None
        self._is_closed = False
        self.sources: set[AsyncGenerator[Any, None]] = set()
        """Those that are not at their end; closing the client closes them."""

    def __enter__(self) -> Self:
        if self._is_closed:
            raise UsageError("this client is closed; make another one")
        self._open = ExitStack()
        self._portal = self._open.enter_context(start_blocking_portal("asyncio"))
        self._open.callback(self._portal.call, self.client.aclose)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def portal(self) -> BlockingPortal:
        """The thread that does the work; it is started when it is first needed."""
        if self._portal is None:
            self.__enter__()
        assert self._portal is not None
        return self._portal

    @contextmanager
    def begun(self, source: AsyncGenerator[Any, None]) -> Iterator[None]:
        """Have a source closed when it is no longer wanted, at the latest with the client."""
        self.sources.add(source)
        try:
            yield
        finally:
            self._end(source)

    def _end(self, source: AsyncGenerator[Any, None]) -> None:
        if source in self.sources:
            self.sources.discard(source)
            self.portal.call(source.aclose)

    def close(self) -> None:
        """Close the connections, end what is still iterated, and end the thread."""
        for source in tuple(self.sources):
            self._end(source)
        self._is_closed = True
        if self._open is not None:
            self._open.close()
        self._open = self._portal = None

    devices = _asked(SungrowClient.devices)
    realtime = _asked(SungrowClient.realtime)
    series = _asked(SungrowClient.series)
    range = _asked(SungrowClient.range)
    pages = _iterated(SungrowClient.pages)
    plants = _asked(SungrowClient.plants)
    plant_series = _asked(SungrowClient.plant_series)
    plant_range = _asked(SungrowClient.plant_range)
    events = _asked(SungrowClient.events)
    counter_breaks = _asked(SungrowClient.counter_breaks)
    completeness = _asked(SungrowClient.completeness)
    conflicts = _iterated(SungrowClient.conflicts)
    edge_status = _asked(SungrowClient.edge_status)
    stream = _iterated(SungrowClient.stream)
