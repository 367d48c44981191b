"""Channels: both layers of channels_redis carry messages to channels and groups, and a chat over WebSockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from applications import package
from servers import GodisProcess
from tables import for_each

core, pubsub = package("channels_redis.core", "channels-redis"), package("channels_redis.pubsub", "channels-redis")
django_conf = package("django.conf", "Django")
if not django_conf.settings.configured:
    django_conf.settings.configure(SECRET_KEY="secret", ALLOWED_HOSTS=["*"], USE_TZ=True)
    package("django").setup()
websocket, testing = package("channels.generic.websocket", "channels"), package("asgiref.testing")
ChannelFull = package("channels.exceptions", "channels").ChannelFull
override_settings = package("django.test").override_settings
LAYERS = core.RedisChannelLayer, pubsub.RedisPubSubChannelLayer


@for_each("layer", LAYERS)
def test_a_group_hears_what_is_sent_to_it(server_6h: GodisProcess, layer: Any) -> None:
    async def main() -> None:
        here, there = (layer(hosts=[("127.0.0.1", server_6h.port)]) for _ in range(2))
        first, second = await here.new_channel(), await there.new_channel()
        await here.group_add("group", first)
        await there.group_add("group", second)
        await here.group_send("group", {"type": "to.all", "number": 1})
        assert await here.receive(first) == await there.receive(second) == {"type": "to.all", "number": 1}
        await there.group_discard("group", second)
        await here.group_send("group", {"type": "to.one"})
        assert await here.receive(first) == {"type": "to.one"}
        await here.send(second, {"type": "direct"})
        assert await there.receive(second) == {"type": "direct"}
        await here.flush()
        for used in (here, there):
            await getattr(used, "close_pools", used.flush)()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_full_channel_refuses_messages_and_a_group_passes_it_over(server_6h: GodisProcess) -> None:
    async def main() -> None:
        layer = core.RedisChannelLayer(hosts=[("127.0.0.1", server_6h.port)], capacity=3)
        for _ in range(3):
            await layer.send("full", {"type": "x"})
        with pytest.raises(ChannelFull):
            await layer.send("full", {"type": "x"})
        await layer.group_add("group", "full")
        await layer.group_send("group", {"type": "x"})
        await layer.close_pools()

    asyncio.run(asyncio.wait_for(main(), 60))


@for_each("layer", LAYERS)
def test_a_chat_over_websockets(server_6h: GodisProcess, layer: Any) -> None:
    class Chat(websocket.AsyncJsonWebsocketConsumer):  # type: ignore[name-defined, misc]
        groups = ("room",)

        async def receive_json(self, content: Any, **_: Any) -> None:
            await self.channel_layer.group_send("room", {"type": "said", "text": content["text"]})

        async def said(self, event: Any) -> None:
            await self.send_json(event["text"])

    async def main() -> None:
        scope = {"type": "websocket", "path": "/chat"}
        people = [testing.ApplicationCommunicator(Chat.as_asgi(), scope) for _ in range(3)]
        for person in people:
            await person.send_input({"type": "websocket.connect"})
            assert (await person.receive_output(60))["type"] == "websocket.accept"
        await people[0].send_input({"type": "websocket.receive", "text": '{"text": "hello"}'})
        assert [(await person.receive_output(60))["text"] for person in people] == ['"hello"'] * 3
        for person in people:
            person.stop(exceptions=False)  # a disconnect may end in a TimeoutError of redis-py 8, on redis-server, too

    config = {"BACKEND": f"{layer.__module__}.{layer.__name__}", "CONFIG": {"hosts": [("127.0.0.1", server_6h.port)]}}
    with override_settings(CHANNEL_LAYERS={"default": config}):
        asyncio.run(asyncio.wait_for(main(), 60))
