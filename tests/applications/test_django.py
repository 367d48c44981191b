"""Django: its own RedisCache and django-redis, as caches, as the store of sessions, and behind a page."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from applications import package
from servers import GodisProcess
from tables import for_each

django_conf = package("django.conf", "Django")
package("django_redis", "django-redis")
if not django_conf.settings.configured:
    django_conf.settings.configure(SECRET_KEY="secret", ALLOWED_HOSTS=["*"], USE_TZ=True)
    package("django").setup()
cache, test, urls, http = map(package, ("django.core.cache", "django.test", "django.urls", "django.http"))
cache_page = package("django.views.decorators.cache").cache_page
BACKENDS = {"own": "django.core.cache.backends.redis.RedisCache", "django_redis": "django_redis.cache.RedisCache"}
rendered = itertools.count(1)


def visits(request: Any) -> Any:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return http.HttpResponse(str(request.session["visits"]))


def page(_request: Any) -> Any:
    return http.HttpResponse(str(next(rendered)))


urlpatterns = [urls.path("visits", visits), urls.path("page", cache_page(60)(page))]


@pytest.fixture
def caches(server_6h: GodisProcess) -> Iterator[Any]:
    """Both caches; each key of Django lives 300 s unless its caller says otherwise."""
    location = f"redis://127.0.0.1:{server_6h.port}/"
    options = {
        "CACHES": {
            name: {"BACKEND": backend, "LOCATION": f"{location}{database}"}
            for database, (name, backend) in enumerate([("default", BACKENDS["own"]), *BACKENDS.items()])
        },
        "SESSION_ENGINE": "django.contrib.sessions.backends.cache",
        "SESSION_SERIALIZER": "django.contrib.sessions.serializers.JSONSerializer",
        "MIDDLEWARE": ["django.contrib.sessions.middleware.SessionMiddleware"],
        "ROOT_URLCONF": __name__,
    }
    with test.override_settings(**options):
        yield cache.caches
        cache.caches.close_all()


@for_each("name", BACKENDS)
def test_a_cache_keeps_values_as_long_as_it_is_told(caches: Any, name: str) -> None:
    store = caches[name]
    store.set("a", {"list": [1, None]}, 30)
    assert store.get("a") == {"list": [1, None]}
    assert not store.add("a", 1)
    assert store.add("n", 1)
    assert [store.incr("n"), store.incr("n", 5), store.decr("n")] == [2, 7, 6]
    assert store.touch("n", 60)
    assert not store.touch("missing", 60)
    assert store.get_or_set("made", lambda: 7) == 7
    store.set("gone", 1, 0)
    assert [store.has_key("n"), store.has_key("gone")] == [True, False]
    store.set_many({f"m{number}": number for number in range(20)}, timeout=5)
    assert store.get_many([f"m{number}" for number in range(25)]) == {f"m{number}": number for number in range(20)}
    store.delete_many(["m0", "m1"])
    assert [store.get("m0"), store.get("m2"), store.delete("m2"), store.delete("m2")] == [None, 2, True, False]
    assert store.incr_version("a") == 2
    assert store.get("a", version=2) == {"list": [1, None]}
    store.clear()
    assert store.get("a", version=2) is None


def test_what_django_redis_adds(caches: Any) -> None:
    store = caches["django_redis"]
    store.set("a", 1, 30)
    assert 0 < store.ttl("a") <= 30
    assert store.expire("a", 90)
    assert 30_000 < store.pttl("a") <= 90_000
    assert store.persist("a")
    assert store.ttl("a") is None
    assert store.set("a", 2, nx=True) in (None, False)
    with store.lock("lock", timeout=50):
        assert not store.lock("lock", timeout=50).acquire(blocking=False)
    store.set_many({f"m{number}": number for number in range(30)})
    assert sorted(store.keys("m1?")) == sorted(store.iter_keys("m1?")) == [f"m1{digit}" for digit in range(10)]
    assert store.delete_pattern("m*") == 30
    assert [store.sadd("set", 1, 2, 2), store.scard("set"), store.smembers("set")] == [2, 2, {1, 2}]
    assert store.hset("hash", "f", 1) == 1
    assert [store.hkeys("hash"), store.hlen("hash"), store.hexists("hash", "f")] == [["f"], 1, True]


def test_sessions_and_pages_are_in_the_cache(caches: Any) -> None:
    client, other = test.Client(), test.Client()
    assert [client.get("/visits").content for _ in range(3)] == [b"1", b"2", b"3"]
    assert other.get("/visits").content == b"1"
    assert client.get("/page").content == client.get("/page").content == other.get("/page").content
    before = client.get("/page").content
    caches["default"].clear()
    assert client.get("/page").content != before
    assert client.get("/visits").content == b"1"
