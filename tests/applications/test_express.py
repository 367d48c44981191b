"""connect-redis and rate-limit-redis: two processes of Express with the same sessions and limits."""

from __future__ import annotations

from collections.abc import Callable
from http.cookiejar import CookieJar
from urllib.error import HTTPError, URLError
from urllib.request import HTTPCookieProcessor, build_opener

from applications import node_packages
from servers import GodisProcess, free_port, wait_until
from workers import running

NODE_PATH = node_packages("express", "express-session", "express-rate-limit", "connect-redis", "rate-limit-redis")


def browser() -> Callable[[int, str], tuple[int, str]]:
    """Return a function that gets a page as one client does, with its cookies."""
    opener = build_opener(HTTPCookieProcessor(CookieJar()))

    def get(port: int, path: str) -> tuple[int, str]:
        try:
            with opener.open(f"http://127.0.0.1:{port}{path}") as answer:
                return answer.status, answer.read().decode()
        except HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()
        except URLError:
            return 0, ""

    return get


def test_processes_have_sessions_and_limits_in_common(server_6h: GodisProcess) -> None:
    one, other = free_port(), free_port()
    with (
        running(server_6h, "node", "express_server.js", str(one), NODE_PATH=NODE_PATH),
        running(server_6h, "node", "express_server.js", str(other), NODE_PATH=NODE_PATH),
        server_6h.client() as client,
    ):
        ada, bob = browser(), browser()
        wait_until(lambda: bob(one, "/name") == bob(other, "/name") == (200, "nobody"), 30)
        assert ada(one, "/login/Ada") == (200, "welcome")
        assert bob(one, "/login/Bob") == (200, "welcome")
        assert (ada(other, "/name"), bob(other, "/name")) == ((200, "Ada"), (200, "Bob"))
        assert [23 * 3600 < client.ttl(key) <= 86400 for key in client.keys("sess:*")] == [True, True]
        assert ada(other, "/logout") == (200, "goodbye")
        assert (ada(one, "/name"), bob(one, "/name")) == ((200, "nobody"), (200, "Bob"))
        assert [ada(port, "/limited?user=ada")[0] for port in (one, other, one, other)] == [200, 200, 200, 429]
        assert bob(other, "/limited?user=bob") == (200, "let in")
        assert 0 < client.pttl("rl:ada") <= 600_000
