"""Both clients through a proxy of ZeroMQ, which knows nothing of Rewind: ``zmq.proxy(ROUTER, DEALER)``."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
import zmq
from client_contract import PATIENCE_S, consuming, event, fill

import rewind
from rewind.testing import Daemon


@pytest.fixture(params=[1, 3], ids=["one proxy", "three in a row"])
def proxied(daemon: Daemon, request: pytest.FixtureRequest) -> Iterator[str]:
    """Where clients reach the daemon through so many proxies."""
    context = zmq.Context()
    endpoint = daemon.endpoint
    proxies: list[threading.Thread] = []
    for _ in range(request.param):
        front, back = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
        front.bind("tcp://127.0.0.1:*")
        back.connect(endpoint)
        endpoint = front.last_endpoint.decode().rstrip("\0")
        proxies.append(threading.Thread(target=pass_on, args=(front, back)))
        proxies[-1].start()
    yield endpoint
    context.term()  # The proxies notice, and close their sockets.
    for proxy in proxies:
        proxy.join(PATIENCE_S)
        assert not proxy.is_alive()


def pass_on(front: zmq.Socket[bytes], back: zmq.Socket[bytes]) -> None:
    with pytest.raises(zmq.ContextTerminated):
        zmq.proxy(front, back)
    front.close(0)
    back.close(0)


def test_a_blocking_client_appends_reads_and_subscribes(proxied: str) -> None:
    with rewind.connect(proxied) as client:
        fill(client, 2_500)
        assert client.head() == 2_500
        with pytest.raises(rewind.WrongExpectedVersion):
            client.append("s", event(), 1)
        assert len(list(client.read())) == 2_500 and list(client.streams()) == [("s", 2_500)]
        for filters in ({}, {"types": ["t"]}):  # A filtered one waits in the daemon.
            with consuming(client.subscribe(after=2_400, **filters)) as consumer:  # type: ignore[arg-type]
                assert consumer.subscription.wait_caught_up(PATIENCE_S)
                last = client.append("s", event()).last
                assert consumer.subscription.wait_for(last, PATIENCE_S)
                assert consumer.positions == list(range(2_401, last + 1))


def test_an_asyncio_client_appends_reads_and_subscribes(proxied: str) -> None:
    async def main() -> None:
        async with rewind.connect_async(proxied) as client:
            await asyncio.gather(*(client.append("s", event()) for _ in range(500)))
            assert len([each async for each in client.read()]) == 500
            for filters in ({}, {"types": ["t"]}):
                subscription = client.subscribe(after=await client.head(), **filters)  # type: ignore[arg-type]
                waits = asyncio.ensure_future(anext(subscription))
                await asyncio.sleep(0)
                last = (await client.append("s", event())).last
                assert (await waits).position == last
                subscription.stop()

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))
