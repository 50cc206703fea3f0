"""WebSocket, by the library `websockets` and by aiohttp: what passes, and what a fault elsewhere must not touch."""

import asyncio

import aiohttp
import pytest
import websockets

from cluster import Faults, until


def url(cluster) -> str:
    return f"ws://{cluster.address}/ws"


def connect(cluster, secure: bool, **options):
    """In the clear, or over TLS."""
    if not secure:
        return websockets.connect(url(cluster), proxy=None, **options)
    secured = cluster.secure()
    return websockets.connect(f"wss://{secured.address}/ws", proxy=None, ssl=secured.context, **options)


async def converse(socket) -> None:
    """Texts, bytes, fragments, pings, and messages larger than any buffer."""
    for text in ("", "ping", "ü" * 1000, "x" * 500_000):
        await socket.send(text)
        assert await socket.recv() == text
    for size in (0, 1, 125, 126, 65_535, 65_536, 900_000):
        await socket.send(b"\0" * size)
        assert await socket.recv() == b"\0" * size
    await socket.send(["in ", "three ", "fragments"])
    assert await socket.recv() == "in three fragments"
    assert await asyncio.wait_for(await socket.ping(), 30) < 30


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("compression", ["deflate", None])
def test_everything_passes_both_ways(cluster, compression, secure):
    async def work():
        async with connect(cluster, secure, compression=compression) as socket:
            names = [extension.name for extension in socket.protocol.extensions]
            assert names == (["permessage-deflate"] if compression else [])
            await converse(socket)

    asyncio.run(work())
    until(lambda: cluster.ask("/services/socket")["in_flight"] == 0, 30)


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_a_close_code_passes(cluster, code, secure):
    async def work():
        async with connect(cluster, secure, subprotocols=["chat"]) as socket:
            assert socket.subprotocol == "chat"
            await socket.send(f"close {code}")
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await socket.recv()
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, "as asked")
        async with connect(cluster, secure) as socket:
            await socket.close(code, "of my own")
            assert socket.close_code == code

    asyncio.run(work())


def test_aiohttp_speaks_it_too(cluster):
    async def work():
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{cluster.url}/ws", compress=15) as socket:
            assert socket.compress
            await socket.send_str("hello")
            assert (await socket.receive_str(timeout=30)) == "hello"
            await socket.close(code=4000)

    asyncio.run(work())


def test_a_pipe_through_a_proxy_in_the_environment(cluster):
    """`http_proxy` is for http and not for ws: a client that wants a tunnel for it is told that there is none."""

    async def work():
        with pytest.raises(websockets.exceptions.ProxyError, match="400"):
            await websockets.connect("ws://socket/ws", proxy=cluster.url)

    asyncio.run(work())


def test_no_handshake_is_lost(cluster):
    async def work():
        async def one(number: int) -> None:
            async with websockets.connect(url(cluster), open_timeout=60, proxy=None) as socket:
                await socket.send(str(number))
                assert await socket.recv() == str(number)

        for begin in range(0, 300, 30):
            await asyncio.gather(*(one(number) for number in range(begin, begin + 30)))

    asyncio.run(work())


def test_a_kill_under_one_is_not_seen_by_another_and_who_comes_next_is_served(cluster):
    async def work():
        async with websockets.connect(url(cluster), open_timeout=60, proxy=None) as kept:
            await kept.send("before")
            assert await kept.recv() == "before"
            holds = {one["id"] for one in cluster.ask("/services/socket")["instances"] if one["in_flight"]}
            async with websockets.connect(url(cluster), open_timeout=60, proxy=None) as lost:
                await lost.send("before")
                assert await lost.recv() == "before"
                busy = {one["id"] for one in cluster.ask("/services/socket")["instances"] if one["in_flight"]}
                (victim,) = busy - holds
                cluster.ask(f"/services/socket/instances/{victim}/kill", "POST")
                with pytest.raises(websockets.ConnectionClosed):
                    await asyncio.wait_for(lost.recv(), 30)
            # Waits for the instance that replaces the dead one.
            async with websockets.connect(url(cluster), open_timeout=60, proxy=None) as after:
                await after.send("after")
                assert await after.recv() == "after"
            await kept.send("still there")
            assert await kept.recv() == "still there"

    asyncio.run(work())
    cluster.settled("socket")


def test_handshakes_under_faults(cluster):
    """Whoever connects while instances die is served by another, whatever became of the connections before."""
    served = 0

    async def one() -> None:
        nonlocal served
        try:
            async with websockets.connect(url(cluster), open_timeout=60, proxy=None) as socket:
                served += 1
                await asyncio.sleep(0.3)
                await socket.send("x")
                await socket.recv()
        except websockets.ConnectionClosed:
            # Its instance was killed after the handshake: nobody else can go on with what was said on it.
            pass

    with Faults(cluster, "socket").at_work():
        for _ in range(10):
            asyncio.run(one())
    assert served == 10
    cluster.settled("socket")
