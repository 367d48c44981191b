-- What a script sees of Lua, and how it runs. `host` has functions of Python, which return nothing but strings, numbers,
-- booleans, nil, and tables made for them; a script never holds one of them, only the Lua functions around them.
-- The global table of the runtime stays the libraries' own: scripts have `environment` instead, which is empty and reads
-- `globals` behind it, so that each assignment to a global ends in `refuse`.

local host, options, hidden_sources = ...
local byte, concat, error, find, floor = string.byte, table.concat, error, string.find, math.floor
local format, getinfo, getmetatable, ipairs, loadstring = string.format, debug.getinfo, getmetatable, ipairs, loadstring
local memory, next, pairs, pcall, rawget, rawset = collectgarbage, next, pairs, pcall, rawget, rawset
local select, setfenv, sethook, setmetatable, sub = select, setfenv, debug.sethook, setmetatable, string.sub
local tonumber, tostring, type, unpack, xpcall = tonumber, tostring, type, unpack, xpcall
local dump, newproxy = string.dump, newproxy

local READ_ONLY = "Attempt to modify a readonly table"
local SHORT = "ERR not enough memory for this script"
local MOST_RETURNED, MOST_DEPTH, LONGEST_PATTERN, MOST_UNPACKED = 200, 200, 2000, 7997
local PART_INSTRUCTIONS = 1000 -- of a coroutine
local full_kb, is_pool = options.full_kb, options.is_pool
local killed -- the error that ends the script, whatever it catches

-- ---- tables that cannot be changed: the script holds a userdata that reads them

local real_of = setmetatable({}, { __mode = "k" })

local function refuse()
    error(READ_ONLY, 2)
end

local function protected(real)
    local proxy = newproxy(true)
    local meta = getmetatable(proxy)
    meta.__index, meta.__newindex, meta.__metatable = real, refuse, false
    real_of[proxy] = real
    return proxy
end

-- ---- Lua's own functions, as far as a script has them

local globals, redis = {}, {}
for name in ("_VERSION assert error getmetatable ipairs rawequal select setmetatable tonumber type"):gmatch("%S+") do
    globals[name] = _G[name]
end

local function bad_argument(number, name, wanted, value, count)
    local given = value == nil and (count or 0) < number and "no value" or real_of[value] and "table" or type(value)
    error(format("bad argument #%d to '%s' (%s expected, got %s)", number, name, wanted, given), 3)
end

local UNORDERED = { ["function"] = true, table = true, thread = true, userdata = true }

-- In a pool refuse a table some of whose keys are objects: their order is that of their addresses.
local function check_order(t)
    for key in next, t do
        if UNORDERED[type(key)] then
            error("in a pool, a table whose keys are tables or functions has no order to visit it in", 3)
        end
    end
end

local function as_table(t, name)
    if type(t) ~= "table" then
        local real = real_of[t]
        if not real then
            error(format("bad argument #1 to '%s' (table expected, got %s)", name, t == nil and "nil" or type(t)), 3)
        end
        local copy = {}
        for key, value in next, real do
            copy[key] = value
        end
        return copy
    elseif is_pool then
        check_order(t)
    end
    return t
end

function globals.pairs(t)
    return globals.next, as_table(t, "pairs"), nil
end

globals.next = next
if is_pool then
    local checked
    function globals.next(t, key)
        if key == nil or t ~= checked then
            checked = as_table(t, "next")
        end
        local found, value = next(t, key)
        return found, value
    end
end

if is_pool then
    function globals.setmetatable(t, meta)
        if type(meta) == "table" and rawget(meta, "__mode") ~= nil then
            error("in a pool there are no weak tables: they lose their members at another moment on each instance", 2)
        end
        return setmetatable(t, meta)
    end
end

function globals.rawget(t, key)
    return rawget(real_of[t] or t, key)
end

function globals.rawset(t, key, value)
    if real_of[t] then
        error(READ_ONLY, 0)
    end
    return rawset(t, key, value)
end

local numbers, last_number = setmetatable({}, { __mode = "k" }), 0

-- An object is shown with a number and not with its address, which differs from one process to another.
function globals.tostring(...)
    local value = ...
    local kind = type(value)
    if not UNORDERED[kind] then
        return tostring(...)
    end
    local meta = not real_of[value] and getmetatable(value)
    if type(meta) == "table" and rawget(meta, "__tostring") ~= nil then
        return tostring(value)
    end
    if not numbers[value] then
        last_number = last_number + 1
        numbers[value] = last_number
    end
    return format("%s: 0x%08x", real_of[value] and "table" or kind, numbers[value])
end

-- As Redis's: an error that is a table with a text is caught as that text.
local function caught(is_done, ...)
    if is_done then
        return true, ...
    elseif killed then
        error(killed, 0)
    end
    local problem = ...
    if type(problem) == "table" then
        local text = problem.err
        if type(text) == "string" or type(text) == "number" then
            problem = text
        end
    end
    return false, problem
end

function globals.pcall(...)
    if select("#", ...) == 0 then
        error("bad argument #1 to 'pcall' (value expected)", 2)
    end
    return caught(pcall(...))
end

local function unless_killed(...)
    if killed then
        error(killed, 0)
    end
    return ...
end

-- The hook does not run amid its own error: a handler that was called for that could not be ended.
function globals.xpcall(work, handle)
    return unless_killed(xpcall(work, function(...)
        if killed then
            return ...
        end
        return handle(...)
    end))
end

-- Lua 5.1 counts the results as an int of C, and would write beyond its stack.
function globals.unpack(...)
    local items, first, last = ...
    if type(items) ~= "table" then
        bad_argument(1, "unpack", "table", items, select("#", ...))
    end
    local from, to = tonumber(first == nil and 1 or first), tonumber(last == nil and #items or last)
    if not (from and to) then
        bad_argument(from and 3 or 2, "unpack", "number", from and last or first)
    elseif not (to - from < MOST_UNPACKED) then
        error("too many results to unpack", 2)
    end
    return unpack(items, from, to)
end

-- ---- code

local environment = {}

local function compiled(text, name)
    if byte(text) == 27 then
        return nil, "code that is compiled already is refused"
    end
    local made, problem = loadstring(text, name)
    return made and setfenv(made, environment), problem
end

function globals.loadstring(text, name)
    if type(text) ~= "string" and type(text) ~= "number" then
        bad_argument(1, "loadstring", "string", text)
    end
    return compiled(tostring(text), name == nil and tostring(text) or tostring(name))
end

function globals.load(read, name)
    if type(read) ~= "function" then
        bad_argument(1, "load", "function", read)
    end
    local pieces = {}
    local function read_all()
        for piece in read do
            if type(piece) ~= "string" then
                error("reader function must return a string", 0)
            elseif piece == "" then
                break
            end
            pieces[#pieces + 1] = piece
        end
    end
    local is_read, problem = unless_killed(pcall(read_all))
    if not is_read then
        return nil, problem
    end
    return compiled(concat(pieces), name == nil and "=(load)" or tostring(name))
end

-- ---- memory and time

local COLLECTS = { collect = true, step = true, stop = false, restart = false, setpause = false, setstepmul = false }

-- The collector's settings would stay for other scripts: nothing changes them.
function globals.collectgarbage(what)
    if what == "count" then
        return is_pool and 0 or memory("count")
    end
    local collects = COLLECTS[what == nil and "collect" or what]
    if collects == nil then
        error(format("bad argument #1 to 'collectgarbage' (invalid option '%s')", tostring(what)), 2)
    elseif collects then
        memory("collect")
    end
    return 0
end

function globals.gcinfo()
    return is_pool and 0 or floor(memory("count"))
end

local endings = {}
for place, reason in ipairs(options.endings) do
    endings[place] = { err = reason, source = false, line = 0 }
end

-- Nothing here takes memory: there may be none.
local function tick()
    local place = host.tick()
    if place then
        killed = endings[place]
        killed.source = false
        error(killed, 0)
    end
end

sethook(tick, "", options.instructions)

local coroutine, create, wrap = coroutine, coroutine.create, coroutine.wrap
local parts = 0

local function tick_of_parts()
    parts = parts + PART_INSTRUCTIONS
    if parts >= options.instructions then
        parts = 0
        tick()
    end
end

-- Lua counts the instructions of each coroutine by itself. So there are small parts of a tick, and to begin a coroutine
-- is one: else a script that makes many short ones would have no ticks.
local function watched(body, name)
    if type(body) ~= "function" then
        error(format("bad argument #1 to '%s' (Lua function expected)", name), 3)
    end
    return function(...)
        sethook(tick_of_parts, "", PART_INSTRUCTIONS)
        tick_of_parts()
        return body(...)
    end
end

-- ---- libraries

local function copy_of(library)
    local copy = {}
    for name, value in next, library do
        copy[name] = value
    end
    return copy
end

local strings, tables, maths = copy_of(string), copy_of(table), copy_of(math)
local threads = copy_of(coroutine)

function threads.create(body)
    return create(watched(body, "create"))
end

function threads.wrap(body)
    return wrap(watched(body, "wrap"))
end

function threads.resume(...)
    return unless_killed(coroutine.resume(...))
end

function tables.foreach(t, visit)
    for key, value in next, as_table(t, "foreach") do
        local found = visit(key, value)
        if found ~= nil then
            return found
        end
    end
end

-- A long pattern with repetitions is matched by recursion in C, a level an item: it could take all of the stack.
local function check_pattern(pattern)
    if type(pattern) == "string" and #pattern > LONGEST_PATTERN and find(pattern, "[%?%*%+%-%(]") then
        error("pattern too complex", 3)
    end
end

do
    local find, match, gmatch, gsub = string.find, string.match, string.gmatch, string.gsub
    function strings.find(...)
        local _, pattern, _, is_plain = ...
        check_pattern(not is_plain and pattern)
        return find(...)
    end
    function strings.match(...)
        check_pattern((select(2, ...)))
        return match(...)
    end
    function strings.gmatch(...)
        check_pattern((select(2, ...)))
        return gmatch(...)
    end
    function strings.gsub(...)
        check_pattern((select(2, ...)))
        return gsub(...)
    end
    strings.gfind = strings.gmatch
end

-- Redis's generator of random numbers: the 48 bits of drand48, here in two halves.
local high, low = 0x1234AB, 0xCD330E

local function seed(number)
    local bits = number - number == 0 and number % 2 ^ 32 or 0 -- 0 for what is infinite or not a number, as in Redis
    high, low = floor(bits / 256), bits % 256 * 65536 + 0x330E
end

local function random()
    local product = low * 0xECE66D + 0xB -- the factor is 0x5DEECE66D
    local product_high = high * 0xECE66D + low * 0x5DE + floor(product / 2 ^ 24)
    high, low = product_high % 2 ^ 24, product % 2 ^ 24
    return floor((high * 2 ^ 24 + low) / 2 ^ 17)
end

function maths.random(...)
    local share = random() % (2 ^ 31 - 1) / (2 ^ 31 - 1)
    local count, first, last = select("#", ...), ...
    if count == 0 then
        return share
    end
    first, last = tonumber(first), tonumber(last)
    if count > 2 then
        error("wrong number of arguments", 2)
    elseif not first or count == 2 and not last then
        bad_argument(first and 2 or 1, "random", "number", (select(first and 2 or 1, ...)))
    end
    local low_end, high_end = count == 1 and 1 or floor(first), floor(count == 1 and first or last)
    if not (low_end <= high_end and low_end >= -2 ^ 31 and high_end < 2 ^ 31) then
        error(format("bad argument #%d to 'random' (interval is empty)", count), 2)
    end
    return floor(share * (high_end - low_end + 1)) + low_end
end

function maths.randomseed(number)
    if not tonumber(number) then
        bad_argument(1, "randomseed", "number", number)
    end
    seed(floor(tonumber(number)))
end

-- ---- redis

local used, call = memory, host.call

local function failure(text)
    return { err = text }
end

-- Return the reply of a command that is a status or an error.
local function reply(value, kind, is_raised)
    if kind == "ok" then
        return { ok = value }
    end
    local problem = { err = value, ignore_error_stats_update = true }
    if is_raised then
        error(problem, 0)
    end
    return problem
end

local function require_memory()
    if memory("count") > full_kb then
        memory("collect")
        if memory("count") > full_kb then
            error({ err = SHORT }, 0)
        end
    end
end

-- Return redis.call, which raises an error that a command replies, or redis.pcall, which returns it.
local function caller(is_raised)
    return function(...)
        if used("count") > full_kb then
            require_memory()
        end
        local value, kind = call(...) -- `kind` is nil for a string, a number, a boolean, null, and a table that is made
        if kind == nil then
            return value
        end
        return reply(value, kind, is_raised)
    end
end

redis.call = caller(true)
redis.pcall = caller(false)

function redis.error_reply(...)
    local text = ...
    if select("#", ...) ~= 1 or type(text) ~= "string" then
        return failure("ERR wrong number or type of arguments")
    end
    text = text:gsub("^%-", ""):gsub("[\r\n]+$", "")
    return failure(find(text, " ", 1, true) and text or "ERR " .. text)
end

function redis.status_reply(...)
    local text = ...
    if select("#", ...) ~= 1 or type(text) ~= "string" then
        return failure("ERR wrong number or type of arguments")
    end
    return { ok = text }
end

local function fail(text)
    error(failure("ERR " .. text), 0)
end

function redis.sha1hex(...)
    if select("#", ...) ~= 1 then
        fail("wrong number of arguments")
    end
    require_memory()
    local text = ...
    return host.sha1hex((type(text) == "string" or type(text) == "number") and tostring(text) or "")
end

function redis.log(...)
    local count, level = select("#", ...), tonumber((...))
    if count < 2 then
        fail("redis.log() requires two arguments or more.")
    elseif not level then
        fail("First argument must be a number (log level).")
    elseif not (floor(level) >= 0 and floor(level) <= 3) then
        fail("Invalid debug level.")
    end
    local words = {}
    for place = 2, count do
        local word = select(place, ...)
        words[place - 1] = (type(word) == "string" or type(word) == "number") and tostring(word) or ""
    end
    require_memory()
    host.log(floor(level), concat(words, " "))
end

function redis.setresp(...)
    local version = tonumber((...))
    if select("#", ...) ~= 1 then
        fail("redis.setresp() requires one argument.")
    elseif version ~= 2 and version ~= 3 then
        fail("RESP version must be 2 or 3.")
    end
    host.setresp(version)
end

function redis.set_repl(...)
    local flags = tonumber((...))
    if select("#", ...) ~= 1 then
        fail("redis.set_repl() requires two arguments.")
    elseif flags ~= 0 and flags ~= 1 and flags ~= 2 and flags ~= 3 then
        fail("Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
    end
end

function redis.replicate_commands()
    return true
end

function redis.breakpoint()
    return false
end

function redis.debug() end

function redis.acl_check_cmd(...)
    if select("#", ...) == 0 then
        fail("Please specify at least one argument for this redis lib call")
    end
    require_memory()
    local is_allowed, problem = host.may_run(...)
    if problem then
        fail(problem)
    end
    return is_allowed
end

redis.LOG_DEBUG, redis.LOG_VERBOSE, redis.LOG_NOTICE, redis.LOG_WARNING = 0, 1, 2, 3
redis.REPL_NONE, redis.REPL_AOF, redis.REPL_SLAVE, redis.REPL_REPLICA, redis.REPL_ALL = 0, 1, 2, 2, 3
redis.REDIS_VERSION, redis.REDIS_VERSION_NUM = options.version, options.version_number

local libraries = { redis = redis, string = strings, table = tables, math = maths, coroutine = threads }
for _, name in ipairs(options.libraries) do
    libraries[name] = _G[name]
end
for name, library in next, libraries do
    globals[name] = protected(library)
end
globals._G = protected(globals)

setmetatable(globals, {
    __index = function(_, name)
        error(format("Script attempted to access nonexistent global variable '%s'", tostring(name)), 2)
    end,
})
setmetatable(environment, { __index = globals, __newindex = refuse })
local of_strings = getmetatable("")
of_strings.__index = strings
of_strings.__metatable = protected({ __index = globals.string })

-- ---- a script

local function position(level)
    local info = getinfo(level, "Sl")
    while info and (info.what == "C" or hidden_sources[info.source]) do
        level = level + 1
        info = getinfo(level, "Sl")
    end
    return info
end

-- Make any error a table that says where it was raised.
local function handle(problem)
    local info = position(3)
    if type(problem) ~= "table" then
        local text, is_ours = globals.tostring(problem):gsub("^sandbox:%d+: ", "")
        if is_ours > 0 and info then
            text = format("%s:%d: %s", info.short_src, info.currentline, text)
        end
        problem = { err = "ERR " .. text }
    end
    if info then
        problem.source, problem.line = info.source, info.currentline
    end
    return problem
end

globals.__redis__err__handler = handle

-- Return a script as a function; or nil, and why it is none. `host.traceable` makes each of its calls of redis.call one
-- that leaves its line on the stack.
local function compile(text, name)
    local made, problem = compiled(text, name)
    if not made then
        return nil, problem
    end
    return setfenv(loadstring(host.traceable(dump(made)), name), environment)
end

-- Append a value to `out` as conversion.py reads it: a number announces what follows it.
local function put(out, value, depth)
    local kind, place = type(value), #out
    if kind == "string" then
        out[place + 1] = value
    elseif kind == "number" then
        out[place + 1], out[place + 2] = 0, value
    elseif kind == "boolean" then
        out[place + 1] = value
    elseif kind ~= "table" then
        out[place + 1], out[place + 2] = 9, 0
    elseif depth > MOST_DEPTH then
        out[place + 1], out[place + 2] = 3, "ERR reached lua stack limit"
    elseif type(rawget(value, "err")) == "string" then
        out[place + 1], out[place + 2] = 3, value.err
    elseif type(rawget(value, "ok")) == "string" then
        out[place + 1], out[place + 2] = 2, value.ok
    elseif type(rawget(value, "double")) == "number" then
        out[place + 1], out[place + 2] = 4, value.double
    elseif type(rawget(value, "map")) == "table" then
        local count = 0
        out[place + 1], out[place + 2] = 5, 0
        for key, member in next, value.map do
            put(out, key, depth + 1)
            put(out, member, depth + 1)
            count = count + 1
        end
        out[place + 2] = 2 * count
    elseif type(rawget(value, "set")) == "table" then
        local count = 0
        out[place + 1], out[place + 2] = 6, 0
        for key in next, value.set do
            put(out, key, depth + 1)
            count = count + 1
        end
        out[place + 2] = count
    elseif type(rawget(value, "big_number")) == "string" then
        out[place + 1], out[place + 2] = 7, value.big_number
    else
        local text = rawget(value, "verbatim_string")
        if type(text) == "table" and type(rawget(text, "string")) == "string" and type(rawget(text, "format")) == "string" then
            out[place + 1], out[place + 2], out[place + 3] = 8, text.format, text.string
            return
        end
        local count, member = 0, rawget(value, 1)
        out[place + 1], out[place + 2] = 1, 0
        while member ~= nil do
            put(out, member, depth + 1)
            count = count + 1
            member = rawget(value, count + 1)
        end
        out[place + 2] = count
    end
end

local function result(is_done, value)
    if not is_done then
        if type(value) ~= "table" then -- an error in the handling of an error, or no memory
            value = { err = "ERR " .. tostring(value) }
        end
        local text, source, line = rawget(value, "err"), rawget(value, "source"), rawget(value, "line")
        text = (type(text) == "string" or type(text) == "number") and tostring(text) or "ERR execution failure"
        if type(source) == "string" and type(line) == "number" then
            return "error", text, source, line, rawget(value, "ignore_error_stats_update") and true or false
        end
        return "error", text, false, 0, rawget(value, "ignore_error_stats_update") and true or false
    end
    local kind = type(value)
    if kind ~= "table" then
        if kind == "string" or kind == "number" or kind == "boolean" then
            return value
        end
        return nil
    end
    local out = {}
    put(out, value, 0)
    require_memory()
    if #out <= MOST_RETURNED then
        return "values", unpack(out)
    end
    return "table", out
end

-- Return the keys and the arguments of a script.
local function split(key_count, ...)
    local words, keys = { ... }, {}
    if type(words[1]) == "table" then
        words = words[1]
    end
    if key_count > 0 then
        local arguments = {}
        for place = 1, key_count do
            keys[place] = words[place]
        end
        for place = key_count + 1, #words do
            arguments[place - key_count] = words[place]
        end
        words = arguments
    end
    return keys, words
end

-- Pass on what `result` has made, or the error that it has ended with, because the memory or the time was over.
local function made(is_made, ...)
    if is_made then
        return ...
    end
    memory("collect")
    return result(false, ...)
end

local function run(work)
    killed = nil
    return made(pcall(result, xpcall(work, handle)))
end

local function run_seeded(work)
    if is_pool then
        seed(host.random())
    end
    return run(work)
end

local function run_words(script, key_count, ...)
    globals.KEYS, globals.ARGV = split(key_count, ...)
    return run_seeded(script)
end

return compile,
    run_words,
    { -- for functions.lua
        compile = compile,
        environment = environment,
        fail = fail,
        globals = globals,
        protected = protected,
        redis = redis,
        run = run,
        run_seeded = run_seeded,
        split = split,
    }
