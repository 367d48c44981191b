"""A server of Socket.IO, one of several that exchange what they emit."""

import os
import sys

import socketio
from aiohttp import web

server = socketio.AsyncServer(client_manager=socketio.AsyncRedisManager(os.environ["REDIS_URL"]))


@server.event
async def join(sid, room):
    await server.enter_room(sid, room)


@server.event
async def tell(sid, room, word):
    await server.emit("told", word, room=room)


@server.event
async def remove(sid, other):
    await server.disconnect(other)


app = web.Application()
server.attach(app)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
