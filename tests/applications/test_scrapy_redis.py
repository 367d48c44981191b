"""scrapy-redis: two crawlers share a queue of requests, no page is crawled twice, and items go to a list."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from applications import package
from servers import HOST, PATIENCE_SECONDS, GodisProcess

package("scrapy", "Scrapy")
package("scrapy_redis", "scrapy-redis")
PAGES = 20
CRAWLER = """
import sys
from scrapy.crawler import CrawlerProcess
from scrapy_redis.spiders import RedisSpider


class Spider(RedisSpider):
    name = "spider"
    redis_key = "spider:start_urls"
    max_idle_time = 1

    def parse(self, response):
        yield {"path": response.url.rpartition("/")[2]}
        yield from response.follow_all(css="a")


settings = {
    "REDIS_URL": sys.argv[1],
    "SCHEDULER": "scrapy_redis.scheduler.Scheduler",
    "SCHEDULER_QUEUE_CLASS": sys.argv[2],
    "DUPEFILTER_CLASS": "scrapy_redis.dupefilter.RFPDupeFilter",
    "ITEM_PIPELINES": {"scrapy_redis.pipelines.RedisPipeline": 300},
    "SCHEDULER_PERSIST": True,
    "SCHEDULER_IDLE_BEFORE_CLOSE": 1,
    "LOG_LEVEL": "WARNING",
    "TELNETCONSOLE_ENABLED": False,
}
process = CrawlerProcess(settings)
process.crawl(Spider)
process.start()
"""


class Site(BaseHTTPRequestHandler):
    """Each page has links to the two after it."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        number = int(self.path[1:])
        links = "".join(f'<a href="/{following}">x</a>' for following in range(number + 1, min(number + 3, PAGES)))
        body = f"<html><body>{links}</body></html>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    with ThreadingHTTPServer((HOST, 0), Site) as site:
        threading.Thread(target=site.serve_forever).start()
        yield f"http://{HOST}:{site.server_port}"
        site.shutdown()


def test_two_crawlers_share_their_requests(server: GodisProcess, site: str, tmp_path: Path) -> None:
    program = tmp_path / "crawler.py"
    program.write_text(CRAWLER)
    with server.client() as r:
        r.lpush("spider:start_urls", f"{site}/0")
        command = [sys.executable, str(program), f"redis://{HOST}:{server.port}", "scrapy_redis.queue.PriorityQueue"]
        crawlers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        said = [crawler.communicate(timeout=PATIENCE_SECONDS)[1] for crawler in crawlers]
        assert [crawler.returncode for crawler in crawlers] == [0, 0], said
        items = [json.loads(item) for item in r.lrange("spider:items", 0, -1)]
        assert sorted(int(item["path"]) for item in items) == list(range(PAGES)), said
        assert sorted(Site.asked) == sorted(f"/{number}" for number in range(PAGES))
        assert [r.scard("spider:dupefilter"), r.exists("spider:requests")] == [PAGES - 1, 0]
