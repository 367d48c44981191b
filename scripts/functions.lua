-- The libraries of functions: how one registers its functions while it is loaded, and how one of them is called.
-- While a library is loaded it sees nothing but a `redis` of its own.

local parts = ...
local compile, fail, globals, run, split = parts.compile, parts.fail, parts.globals, parts.run, parts.split
local error, find, format, getmetatable, lower = error, string.find, string.format, getmetatable, string.lower
local next, select, setmetatable, type = next, select, setmetatable, type
local FLAGS = {
    ["no-writes"] = true,
    ["allow-oom"] = true,
    ["allow-stale"] = true,
    ["no-cluster"] = true,
    ["allow-cross-slot-keys"] = true,
}
local registered, names -- of the library that is loaded: name, description, flags and function of each; its names

local function refuse_name(_, name)
    error(format("Script attempted to access nonexistent global variable '%s'", name), 2)
end

local function as_text(value, problem)
    if type(value) ~= "string" and type(value) ~= "number" then
        fail(problem)
    end
    return value .. ""
end

local function flags_of(list)
    local flags, place = "", 1
    if type(list) ~= "table" then
        fail("flags argument to redis.register_function must be a table representing function flags")
    end
    while list[place] ~= nil do
        local flag = lower(as_text(list[place], "unknown flag given"))
        if not FLAGS[flag] then
            fail("unknown flag given")
        end
        flags, place = flags .. " " .. flag, place + 1
    end
    return flags
end

local READERS = {
    function_name = function(value)
        return as_text(value, "function_name argument given to redis.register_function must be a string")
    end,
    description = function(value)
        return as_text(value, "description argument given to redis.register_function must be a string")
    end,
    callback = function(value)
        if type(value) ~= "function" then
            fail("callback argument given to redis.register_function must be a function")
        end
        return value
    end,
    flags = flags_of,
}

local function named(arguments)
    local given = {}
    if type(arguments) ~= "table" then
        fail(
            "calling redis.register_function with a single argument is only applicable to Lua table "
                .. "(representing named arguments)."
        )
    end
    for key, value in next, arguments do
        local name = lower(as_text(key, "named argument key given to redis.register_function is not a string"))
        if not READERS[name] then
            fail("unknown argument given to redis.register_function")
        end
        given[name] = READERS[name](value)
    end
    if not given.function_name then
        fail("redis.register_function must get a function name argument")
    elseif not given.callback then
        fail("redis.register_function must get a callback argument")
    end
    return given
end

local function positional(name, callback)
    name = as_text(name, "first argument to redis.register_function must be a string")
    if type(callback) ~= "function" then
        fail("second argument to redis.register_function must be a function")
    end
    return { function_name = name, callback = callback }
end

local function register(...)
    local count = select("#", ...)
    if count < 1 or count > 2 then
        fail("wrong number of arguments to redis.register_function")
    elseif not names then
        fail("redis.register_function can only be called on FUNCTION LOAD command")
    end
    local given = count == 1 and named(...) or positional(...)
    local name, place = given.function_name, #registered
    if not find(name, "^[%w_]+$") then
        fail("Library names can only contain letters, numbers, or underscores(_) and must be at least one character long")
    elseif names[lower(name)] then
        fail("Function already exists in the library")
    end
    names[lower(name)] = true
    registered[place + 1], registered[place + 2] = name, given.description or false
    registered[place + 3], registered[place + 4] = given.flags or "", given.callback
end

local redis = parts.redis
redis.breakpoint, redis.debug, redis.replicate_commands = nil, nil, nil -- which only scripts have
local while_loading = { register_function = register, log = redis.log }
for name, value in next, redis do
    if find(name, "^LOG_") or find(name, "^REDIS_") then
        while_loading[name] = value
    end
end
setmetatable(while_loading, { __index = refuse_name })
local loading = setmetatable({ redis = parts.protected(while_loading) }, { __index = refuse_name })

-- Return what has happened, and the functions of a library, or an error.
local function load_library(text)
    local made, problem = compile(text, "@user_function")
    if not made then
        return "uncompiled", problem
    end
    local meta = getmetatable(parts.environment)
    registered, names, meta.__index = {}, {}, loading
    local kind, failure = run(made)
    meta.__index, names = globals, nil
    if kind == "error" and failure ~= nil then
        return "refused", failure
    end
    return "registered", registered
end

local function call(callback, key_count, ...)
    local keys, words = split(key_count, ...)
    return parts.run_seeded(function()
        return callback(keys, words)
    end)
end

return load_library, call
