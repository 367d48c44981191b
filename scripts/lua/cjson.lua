-- cjson: JSON, as Lua CJSON 2.1.0 has it in Redis. Each instance of the library has settings of its own.

local shared = ...
local select, type, format = select, type, string.format
local encoded, null, decoded = shared.json_encoder.encoded, shared.json_encoder.null, shared.json_decoder
local support = shared.support
local fail, one, several = support.fail, support.one, support.several
local HUGE = 2 ^ 31 - 1
local NO_OR_YES = { off = false, on = true }
local NO_YES_OR_NULL = { off = false, on = true, null = "null" }

-- Return what an argument chooses, a boolean or one of the names; a default for one that is not there.
local function choice(default, names, given, argument)
    if given == nil then
        return default
    elseif type(given) == "boolean" then
        return given
    end
    local name = support.string(given, argument)
    if names[name] == nil then
        fail("invalid option '" .. name .. "'", argument)
    end
    return names[name]
end

-- Return an argument as an integer between two others; a default for one that is not there.
local function whole(default, low, high, given, argument)
    if given == nil then
        return default
    end
    local number = (support.integer(given, argument) + 2 ^ 31) % 2 ^ 32 - 2 ^ 31 -- an int of C
    if number < low or number > high then
        fail(format("expected integer between %d and %d", low, high), 1)
    end
    return number
end

local function check_count(most, ...)
    if select("#", ...) > most then
        fail("found too many arguments", most + 1)
    end
end

local function check_single(...)
    if select("#", ...) ~= 1 then
        fail("expected 1 argument", 1)
    end
end

local new
function new()
    local config = {
        sparse_convert = false,
        sparse_ratio = 2,
        sparse_safe = 10,
        encode_depth = 1000,
        decode_depth = 1000,
        precision = 14,
        keeps_buffer = true, -- which changes nothing here
        encode_invalid = false,
        decode_invalid = true,
    }

    local function chosen(name, names)
        return one(function(...)
            check_count(1, ...)
            config[name] = choice(config[name], names, (...), 1)
            return config[name]
        end)
    end

    local function limited(name, low, high)
        return one(function(...)
            check_count(1, ...)
            config[name] = whole(config[name], low, high, (...), 1)
            return config[name]
        end)
    end

    return {
        _NAME = "cjson",
        _VERSION = "2.1.0",
        null = null,
        new = new,
        encode = one(function(...)
            check_single(...)
            return encoded(config, (...))
        end),
        decode = one(function(...)
            check_single(...)
            return decoded(config, support.string((...), 1))
        end),
        encode_max_depth = limited("encode_depth", 1, HUGE),
        decode_max_depth = limited("decode_depth", 1, HUGE),
        encode_number_precision = limited("precision", 1, 14),
        encode_keep_buffer = chosen("keeps_buffer", NO_OR_YES),
        encode_invalid_numbers = chosen("encode_invalid", NO_YES_OR_NULL),
        decode_invalid_numbers = chosen("decode_invalid", NO_OR_YES),
        encode_sparse_array = several(function(...)
            check_count(3, ...)
            local convert, ratio, safe = ...
            config.sparse_convert = choice(config.sparse_convert, NO_OR_YES, convert, 1)
            config.sparse_ratio = whole(config.sparse_ratio, 0, HUGE, ratio, 2)
            config.sparse_safe = whole(config.sparse_safe, 0, HUGE, safe, 3)
            return config.sparse_convert, config.sparse_ratio, config.sparse_safe
        end),
    }
end

return new()
