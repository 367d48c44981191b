"""Random scripts: replies like redis-server's, and on every instance of a pool the same outcome."""

from __future__ import annotations

from random import Random

import pytest
import scripts_of_pool
from random_scripts import random_script
from servers import GodisProcess, RedisProcess, printed_under

SCRIPTS = 400


@pytest.mark.parametrize("seed", range(2))
def test_random_scripts_reply_as_in_redis(seed: int, shared_godis: GodisProcess, redis_server: RedisProcess) -> None:
    random = Random(seed)
    with shared_godis.raw() as ours, redis_server.raw() as theirs:
        ours.ask("CONFIG", "SET", "default-ttl", "0")
        for client in (ours, theirs):
            client.ask("FLUSHALL")
            client.ask("HELLO", 2 + seed)
        for _ in range(SCRIPTS):
            script = random_script(random)
            mine, other = ours.ask(*script), theirs.ask(*script)
            assert mine == other, script


# What might differ between two instances: addresses, the collector, memory, chance, time, the order of tables.
APPLY = """
import scripts_of_pool
print(scripts_of_pool.outcome({memory}))
"""


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_scripts_come_out_alike_in_processes_with_other_hash_seeds(hash_seed: str) -> None:
    printed = printed_under(hash_seed, APPLY.format(memory=int(hash_seed) * 1_000_000))
    assert printed == scripts_of_pool.outcome(0)


def test_the_comparison_of_outcomes_notices_a_difference() -> None:
    assert scripts_of_pool.outcome(0) != scripts_of_pool.outcome(0, seed=2)
