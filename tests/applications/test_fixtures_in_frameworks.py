"""The fixtures of pytest with the test clients of Django and Flask, and with asyncio, in runs of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from applications import package
from program import run_command
from servers import ROOT

DJANGO = """
import pytest
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="k", DATABASES={},
    CACHES={"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": ""}},
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
)
import django
django.setup()
from django.core.cache import caches
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import path

def visit(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    request.session.set_expiry(3600)
    return HttpResponse(str(request.session["visits"]))

urlpatterns = [path("", visit)]

@pytest.fixture
def client(godis_url):
    cache = {"default": settings.CACHES["default"] | {"LOCATION": godis_url}}
    with override_settings(CACHES=cache):
        yield Client()
        caches["default"]._cache._get_client().close()

@pytest.mark.parametrize("number", range(2))
def test_each_test_has_sessions_of_its_own(client, godis, godis_clock, number):
    assert [client.get("/").content for _ in range(3)] == [b"1", b"2", b"3"]
    assert godis.dbsize() == 1
    godis_clock.advance(3601)
    assert client.get("/").content == b"1"
"""
FLASK = """
import flask, pytest, redis

@pytest.fixture
def client(godis_url):
    app, store = flask.Flask("app"), redis.Redis.from_url(godis_url)
    app.add_url_rule("/", view_func=lambda: str(store.incr("visits")))
    with app.test_client() as client, store:
        yield client

@pytest.mark.parametrize("number", range(2))
def test_each_test_counts_from_one(client, number):
    assert [client.get("/").text for _ in range(2)] == ["1", "2"]
"""
ASYNCIO = """
import asyncio, pytest, redis.asyncio

@pytest.mark.parametrize("number", range(2))
def test_a_task_that_waits_times_out(godis_url, godis_clock, number):
    asyncio.run(wait(godis_url, godis_clock))

async def wait(godis_url, godis_clock):
    async with redis.asyncio.Redis.from_url(godis_url) as client:
        assert await client.incr("k") == 1
        waiting = asyncio.create_task(client.blpop("queue", 600))
        while not (await client.info("clients"))["blocked_clients"]:
            await asyncio.sleep(0)
        godis_clock.advance(600)
        assert await waiting is None
"""


@pytest.mark.parametrize(
    ("needed", "program"),
    [("django", DJANGO), ("flask", FLASK), ("redis.asyncio", ASYNCIO)],
    ids=["django", "flask", "asyncio"],
)
def test_an_application_is_tested_with_the_fixtures(needed: str, program: str, tmp_path: Path) -> None:
    package(needed)
    (tmp_path / "test_it.py").write_text(program)
    options = ["-p", "godis.pytest_plugin", "-p", "no:cacheprovider"]
    done = run_command(
        *[sys.executable, "-m", "pytest", "-q", *options], cwd=tmp_path, PYTHONPATH=str(ROOT / "package")
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr
