"""The libraries of scripts: what they return, and that they do what they do in a redis-server."""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from lua_calls import RUN_ALL, Calls
from lupa import lua51
from servers import Raw, parse

from scripts.libraries import LIBRARIES, load_libraries

CALLS = 20_000 if "GODIS_SOAK" in os.environ else 300

# A call, and what it returns or raises. The call stands alone on its line: else Lua forgets who has called.
RESULTS = {
    b"cjson.encode({1,2,'a/b',{x=true}})": b'[1,2,"a\\/b",{"x":true}]',
    b"cjson.encode({[1]=1,[20]=2})": b"call:1: Cannot serialise table: excessively sparse array",
    b"cjson.encode(0/0)": b"call:1: Cannot serialise number: must not be NaN or Inf",
    b"cjson.encode({[true]=1})": b"call:1: Cannot serialise boolean: table key must be a number or string",
    b"cjson.encode()": b"call:1: bad argument #1 to 'encode' (expected 1 argument)",
    b"cjson.decode('[1,')": b"call:1: Expected value but found T_END at character 4",
    b"cjson.decode('\"\\\\ud83d\\\\ude00\"')": "😀".encode(),
    b"cjson.decode('[1,2]')[2]": 2,
    b"cjson.decode('null') == cjson.null": True,
    b"tostring(cjson.null)": b"userdata: (nil)",
    b"cjson.decode(string.rep('[', 1001))": (b"call:1: Found too many nested data structures (1001) at character 1001"),
    b"cmsgpack.pack(1, -1, 'a', {1}, {a=1.5})": b"\x01\xff\xa1a\x91\x01\x81\xa1a\xca?\xc0\x00\x00",
    b"cmsgpack.unpack('\\193')": b"call:1: Bad data format in input.",
    b"cmsgpack.unpack(string.rep('\\145', 9000))": b"call:1: stack overflow (too many return values at once; "
    b"use unpack_one or unpack_limit instead.)",
    b"select('#', cmsgpack.unpack(cmsgpack.pack(1, nil, nil)))": 3,
    b"struct.pack('>I2<I2', 1, 1)": b"\x00\x01\x01\x00",
    b"struct.size('!8bd')": 16,
    b"struct.pack('z')": b"call:1: bad argument #1 to 'pack' (invalid format option 'z')",
    b"bit.tohex(-1, -4)": b"FFFF",
    b"bit.band(2^32 + 5, 7)": 5,
    b"bit.band(1, {})": b"call:1: bad argument #2 to 'band' (number expected, got table)",
}


@pytest.fixture(scope="module")
def lua() -> Any:
    runtime = lua51.LuaRuntime(encoding=None, register_eval=False, unpack_returned_tuples=True)
    load_libraries(runtime)
    return runtime


def ran(lua: Any, call: bytes) -> Any:
    """Return the result or the error of a call."""
    run: Callable[[bytes], tuple[bool, Any]] = lua.eval(b"function(text) return pcall(loadstring(text, '@call')) end")
    return run(b"local x = " + call + b" return x")[1]


@pytest.mark.parametrize("call", RESULTS, ids=lambda call: call.decode())
def test_a_library_does_what_it_does_in_redis(lua: Any, call: bytes) -> None:
    assert ran(lua, call) == RESULTS[call]


@pytest.mark.parametrize("library", LIBRARIES)
def test_random_calls_have_the_results_of_redis(lua: Any, real: Raw, library: str) -> None:
    calls = Calls(Random(int(os.environ.get("GODIS_SEED", "1"))))
    run_all = lua.eval(b"function(text) return loadstring('local ARGV = ... ' .. text) end")(RUN_ALL)
    for _ in range(CALLS // 100):
        chunks = [calls.of(library).encode() for _ in range(100)]
        theirs = parse(real.ask("EVAL", RUN_ALL, 0, *chunks))
        ours = list(run_all(lua.table_from(chunks)).values())
        different = [(chunk, mine, its) for chunk, mine, its in zip(chunks, ours, theirs, strict=True) if mine != its]
        assert not different, different[0]


def test_a_library_has_the_entries_of_redis(lua: Any, real: Raw) -> None:
    for library in LIBRARIES:
        names = f"local names = {{}} for name in pairs({library}) do names[#names + 1] = name end table.sort(names)"
        ours = ran(lua, f"(function() {names} return table.concat(names, ' ') end)()".encode())
        assert ours == parse(real.ask("EVAL", f"{names} return table.concat(names, ' ')", 0))


def test_a_setting_holds_for_one_instance_of_cjson(lua: Any) -> None:
    assert ran(lua, b"(function() local other = cjson.new() other.encode_max_depth(1) return other end)()") is not None
    assert ran(lua, b"cjson.encode_max_depth()") == 1000


def test_what_the_libraries_are_made_of_is_out_of_reach(lua: Any) -> None:
    assert ran(lua, b"next(getfenv(cjson.encode))") is None
    assert ran(lua, b"getmetatable(cjson.null)") is False
    assert ran(lua, b"support or binary or json_encoder or json_decoder") is None


def test_a_foreign_error_passes_through_a_library(lua: Any) -> None:
    """Memory and time end work inside of a library: what says so must not become an error of the call."""
    deep = lua51.LuaRuntime(encoding=None, register_eval=False, unpack_returned_tuples=True, max_memory=2_000_000)
    load_libraries(deep)
    assert b"not enough memory" in ran(deep, b"cjson.encode({string.rep('\"', 300000), string.rep('\"', 300000)})")
