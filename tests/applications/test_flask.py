"""Flask with its usual extensions: Flask-Caching, Flask-Session and Flask-Limiter, asked by Flask's test client."""

from __future__ import annotations

import itertools
from typing import Any

from applications import package
from servers import GodisProcess
from tables import for_each

flask = package("flask", "Flask")
Cache = package("flask_caching", "Flask-Caching").Cache
Session = package("flask_session", "Flask-Session").Session
Limiter = package("flask_limiter", "Flask-Limiter").Limiter


def url(server: GodisProcess) -> str:
    return f"redis://127.0.0.1:{server.port}"


def test_flask_caching_keeps_pages_and_results(server_6h: GodisProcess) -> None:
    app, made = flask.Flask("app"), itertools.count(1)
    config = {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": url(server_6h), "CACHE_DEFAULT_TIMEOUT": 60}
    cache = Cache(app, config=config)

    @app.route("/page")  # type: ignore[untyped-decorator]
    @cache.cached()  # type: ignore[untyped-decorator]
    def page() -> str:
        return str(next(made))

    @cache.memoize(60)  # type: ignore[untyped-decorator]
    def double(number: int) -> tuple[int, int]:
        return 2 * number, next(made)

    with app.app_context():
        client = app.test_client()
        assert [client.get("/page").text, client.get("/page").text] == ["1", "1"]
        assert [double(1), double(2), double(1)] == [(2, 2), (4, 3), (2, 2)]
        cache.delete_memoized(double, 1)
        assert [double(1), double(2)] == [(2, 4), (4, 3)]
        assert cache.set_many({"a": 1, "b": [2]})
        assert cache.get_many("a", "b", "c") == [1, [2], None]
        assert cache.get_dict("a", "c") == {"a": 1, "c": None}
        assert [cache.add("a", 5), cache.has("a"), cache.delete("a"), cache.has("a")] == [False, True, True, False]
        with server_6h.client() as r:
            r.set("another", "1")
            assert all(r.ttl(key) <= 60 for key in r.scan_iter("flask_cache_*"))
            cache.clear()
            assert client.get("/page").text == "5"
            assert r.exists("another") == 1


def test_flask_session_keeps_sessions(server_6h: GodisProcess) -> None:
    app = flask.Flask("app")
    with server_6h.client() as r:
        app.config.update(SESSION_TYPE="redis", SESSION_REDIS=r)
        Session(app)

        @app.route("/visits")  # type: ignore[untyped-decorator]
        def visits() -> str:
            flask.session["visits"] = flask.session.get("visits", 0) + 1
            return str(flask.session["visits"])

        @app.route("/leave")  # type: ignore[untyped-decorator]
        def leave() -> str:
            flask.session.clear()
            return ""

        client, other = app.test_client(), app.test_client()
        assert [client.get("/visits").text for _ in range(3)] == ["1", "2", "3"]
        assert other.get("/visits").text == "1"
        month = app.permanent_session_lifetime.total_seconds()
        assert [month - 60 < r.ttl(key) <= month for key in r.keys("session:*")] == [True, True]
        client.get("/leave")
        assert len(r.keys("session:*")) == 1
        assert client.get("/visits").text == "1"


@for_each("strategy", ["fixed-window", "moving-window", "sliding-window-counter"])
def test_flask_limiter_refuses_more_than_the_limit(server_6h: GodisProcess, strategy: str) -> None:
    app = flask.Flask("app")
    options: dict[str, Any] = {"storage_uri": url(server_6h), "strategy": strategy, "headers_enabled": True}
    limiter = Limiter(lambda: strategy, app=app, **options)

    @app.route("/")  # type: ignore[untyped-decorator]
    @limiter.limit("3/minute")  # type: ignore[untyped-decorator]
    def page() -> str:
        return "page"

    client = app.test_client()
    replies = [client.get("/") for _ in range(5)]
    assert [reply.status_code for reply in replies] == [200] * 3 + [429] * 2
    assert [reply.headers["X-RateLimit-Remaining"] for reply in replies] == ["2", "1", "0", "0", "0"]
