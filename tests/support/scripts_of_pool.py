"""Scripts in a log of a pool: those that would come out differently on two instances, if anything let them."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from random import Random

from pool_member import START_MS, US, Member, make
from random_scripts import random_script

from protocol import encode
from scripts import runtime
from session import PoolState

PROBES = [
    "return {tostring({}), tostring(print_), tostring(redis.call), tostring(coroutine.create(function() end))}",
    "return {tostring({}), tostring(redis.call), tostring(coroutine.create(function() end))}",
    "local t = {} for i = 1, 20 do t[{}] = i end local s = '' for _, v in pairs(t) do s = s .. v .. ' ' end return s",
    "local t = {} for i = 1, 20 do t[tostring] = i end return next(t) ~= nil",
    "local t = {a = 1, b = 2} t[function() end] = 3 local k = next(t) return k",
    "local t = {} for i = 1, 99 do t['k' .. i] = i end local s = '' for k in pairs(t) do s = s .. k end return s",
    "local t, s = {}, '' for i = 1, 99 do t[i * 1.5] = i t[-i] = i end for k in pairs(t) do s = s .. k end return s",
    "local w = setmetatable({}, {__mode = 'k'}) for i = 1, 5000 do w[{}] = i end local n = 0 "
    "for _ in pairs(w) do n = n + 1 end return n",
    "local w = setmetatable({}, {__mode = 'v'}) for i = 1, 5000 do w[i] = {} end local n = 0 "
    "for _ in pairs(w) do n = n + 1 end return n",
    "for i = 1, 5000 do local t = {i} end return tostring(collectgarbage('count'))",
    "return tostring(gcinfo())",
    "return {math.random(1000000), math.random(1000000)}",
    "return redis.call('time')",
    "return {redis.call('srandmember', 's', 3), redis.call('spop', 's'), redis.call('randomkey')}",
    "local t = {} local ok = pcall(function() while true do t = {t, string.rep('x', 100) .. #ARGV} end end) "
    "return tostring(ok)",
    "redis.call('set', 'k', 'v', 'px', 5000) return redis.call('pttl', 'k')",
    "redis.call('select', 2) return redis.call('set', 'in2', 1)",
    "local n = 0 while true do n = n + 1 if n % 1000000 == 0 then redis.call('set', 'n', n) end end",
    "while true do redis.call('incr', 'calls') end",
    "return redis.call('get', 'calls')",
    "return redis.call('evalsha', 'x', 0)",
    "local r = {} for i, k in ipairs(redis.call('keys', '*')) do r[i] = k end return r",
]


def outcome(used_before: int, seed: int = 1) -> str:
    """Apply the probes and random scripts as entries; return a digest of all replies and of the store.

    `used_before`: what other scripts of this instance have left in its own runtime before.
    """
    return _outcome(used_before, seed)


@cache
def _outcome(used_before: int, seed: int) -> str:
    member = Member()
    member.instance.pool = PoolState("0" * 40, "p", [], stale_reads=True)
    if used_before:
        member.ask(b"EVAL_RO return{string.rep('x',%d),math.random()} 0" % used_before)
    random, digest, seq = Random(seed), sha256(), 0
    scripts = [[b"EVAL", text.encode(), b"0", b"x"] for text in PROBES]
    scripts += [random_script(random, for_redis=False) for _ in range(60)]
    with limits():
        for number, argv in enumerate([[b"SADD", b"s", *(b"%d" % n for n in range(50))], *scripts]):
            seq += 1
            [data] = make(seq, [argv], instance=US, now_ms=START_MS + number * 300)
            for reply in member.apply(data).replies:
                encode(reply, digest.update, resp3=True)
    digest.update(member.replica.dump())
    return digest.hexdigest()


class limits:
    """Little memory and few instructions, for as long as it lasts."""

    def __enter__(self) -> None:
        from commands import script_runs  # noqa: PLC0415

        self.kept = runtime.MEMORY_BYTES, runtime.FULL_BYTES, script_runs.MOST_TICKS
        runtime.MEMORY_BYTES, runtime.FULL_BYTES, script_runs.MOST_TICKS = 8 << 20, 7 << 20, 40

    def __exit__(self, *_: object) -> None:
        from commands import script_runs  # noqa: PLC0415

        runtime.MEMORY_BYTES, runtime.FULL_BYTES, script_runs.MOST_TICKS = self.kept
