"""python-socketio: servers that exchange their messages by Godis, and a process that only emits."""

from __future__ import annotations

import asyncio
from typing import Any

from applications import package
from servers import PATIENCE_SECONDS, GodisProcess, free_port
from workers import running, url

socketio: Any = package("socketio", "python-socketio")
package("aiohttp")


async def connected(port: int, heard: asyncio.Queue[str]) -> Any:
    """Return a client, once its server listens."""
    client = socketio.AsyncClient()
    client.on("told", heard.put)
    while True:
        try:
            await client.connect(f"http://127.0.0.1:{port}")
            return client
        except socketio.exceptions.ConnectionError:
            await asyncio.sleep(0.05)


def test_servers_reach_each_other_s_clients(server_6h: GodisProcess) -> None:
    async def run() -> None:
        heard: asyncio.Queue[str] = asyncio.Queue()
        one, other = [await connected(port, heard) for port in ports]
        await one.call("join", "room")
        await other.call("tell", ("room", "from another server"))
        assert await heard.get() == "from another server"
        emitter = socketio.AsyncRedisManager(url(server_6h), write_only=True)
        await emitter.emit("told", "from a program", room="room")
        assert await heard.get() == "from a program"
        await asyncio.to_thread(socketio.RedisManager(url(server_6h), write_only=True).emit, "told", "to all")
        assert [await heard.get() for _ in range(2)] == ["to all"] * 2
        await other.call("remove", one.get_sid())
        await one.wait()
        assert (one.connected, other.connected, heard.empty()) == (False, True, True)
        await other.disconnect()

    ports = [free_port() for _ in range(2)]
    with (
        running(server_6h, "-m", "socketio_server", str(ports[0])),
        running(server_6h, "-m", "socketio_server", str(ports[1])),
    ):
        asyncio.run(asyncio.wait_for(run(), PATIENCE_SECONDS))
