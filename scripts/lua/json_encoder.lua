-- A value as JSON, as Lua CJSON 2.1.0 writes it in Redis. The order of an object's keys is that of `next`.

local shared = ...
local next, rawget, type = next, rawget, type
local char, concat, floor, format, gsub = string.char, table.concat, math.floor, string.format, string.gsub
local fail = shared.support.fail

local null = newproxy(true)
local meta = getmetatable(null)
meta.__metatable = false
function meta.__tostring()
    return "userdata: (nil)"
end

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["/"] = "\\/", ["\127"] = "\\u007f" }
for code = 0, 31 do
    ESCAPES[char(code)] = format("\\u%04x", code)
end
for letter, control in next, { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" } do
    ESCAPES[control] = "\\" .. letter
end

local function cannot_serialise(value, reason)
    fail("Cannot serialise " .. type(value) .. ": " .. reason)
end

-- Return the length of the array that a table is; 0 or less: an object.
local function array_length(config, items)
    local highest, count = 0, 0
    for key in next, items do
        if type(key) ~= "number" or key < 1 or key ~= floor(key) then
            return -1
        end
        if key > highest then
            highest = key < 2 ^ 31 and key or -2 ^ 31 -- as an int of C
        end
        count = count + 1
    end
    local ratio = config.sparse_ratio
    if ratio > 0 and highest > count * ratio and highest > config.sparse_safe then
        if not config.sparse_convert then
            cannot_serialise(items, "excessively sparse array")
        end
        return -1
    end
    return highest
end

local function number_text(config, number)
    if number - number ~= 0 then -- infinite, or not a number
        if config.encode_invalid == false then
            cannot_serialise(number, "must not be NaN or Inf")
        elseif config.encode_invalid == "null" then
            return "null"
        elseif number ~= number then
            return "nan"
        end
    end
    return format(config.precision == 14 and "%.14g" or "%." .. config.precision .. "g", number)
end

local function string_text(text)
    return '"' .. gsub(text, '[%z\1-\31"/\\\127]', ESCAPES) .. '"'
end

-- Return the JSON of a value.
local function encoded(config, document)
    local pieces, count = {}, 0
    local append

    local function append_object(items, depth)
        local before = "{"
        for key, value in next, items do
            count = count + 1
            if type(key) == "string" then
                pieces[count] = before .. string_text(key) .. ":"
            elseif type(key) == "number" then
                pieces[count] = before .. '"' .. number_text(config, key) .. '":'
            else
                cannot_serialise(key, "table key must be a number or string")
            end
            append(value, depth)
            before = ","
        end
        count = count + 1
        pieces[count] = before == "{" and "{}" or "}"
    end

    function append(value, depth)
        local kind, text = type(value), nil
        if kind == "string" then
            text = string_text(value)
        elseif kind == "number" then
            text = number_text(config, value)
        elseif kind == "table" then
            depth = depth + 1
            if depth > config.encode_depth then
                fail(format("Cannot serialise, excessive nesting (%d)", depth))
            end
            local length = array_length(config, value)
            if length <= 0 then
                append_object(value, depth)
                return
            end
            for place = 1, length do
                count = count + 1
                pieces[count] = place == 1 and "[" or ","
                append(rawget(value, place), depth)
            end
            text = "]"
        elseif kind == "boolean" then
            text = value and "true" or "false"
        elseif kind == "nil" or value == null then
            text = "null"
        else
            cannot_serialise(value, "type not supported")
        end
        count = count + 1
        pieces[count] = text
    end

    append(document, 0)
    return concat(pieces)
end

return { encoded = encoded, null = null }
