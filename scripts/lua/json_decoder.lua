-- JSON as a value, as Lua CJSON 2.1.0 reads it in Redis, with its errors, which name what it has found.

local shared = ...
local tonumber, type = tonumber, type
local byte, char, find, format, sub = string.byte, string.char, string.find, string.format, string.sub
local concat, floor, fail, null = table.concat, math.floor, shared.support.fail, shared.json_encoder.null

local UNESCAPED = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }
local PUNCTUATION = {
    ["{"] = "T_OBJ_BEGIN",
    ["}"] = "T_OBJ_END",
    ["["] = "T_ARR_BEGIN",
    ["]"] = "T_ARR_END",
    [":"] = "T_COLON",
    [","] = "T_COMMA",
    ["\0"] = "T_END",
    [""] = "T_END",
}

local function utf8(code)
    if code < 0x80 then
        return char(code)
    elseif code < 0x800 then
        return char(0xC0 + floor(code / 64), 0x80 + code % 64)
    elseif code < 0x10000 then
        return char(0xE0 + floor(code / 4096), 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
    end
    return char(0xF0 + floor(code / 262144), 0x80 + floor(code / 4096) % 64, 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
end

local function unit_at(text, place)
    local _, _, digits = find(text, "^\\u(%x%x%x%x)", place)
    return digits and tonumber(digits, 16)
end

-- Return the character of \uXXXX, or of a pair of surrogates, and its length in the text; nil: there is none.
local function unicode_at(text, place)
    local code = unit_at(text, place)
    if not code or code >= 0xDC00 and code <= 0xDFFF then
        return nil
    elseif code < 0xD800 or code > 0xDFFF then
        return utf8(code), 6
    end
    local second = unit_at(text, place + 6)
    if not second or second < 0xDC00 or second > 0xDFFF then
        return nil
    end
    return utf8((code - 0xD800) * 1024 + second - 0xDC00 + 0x10000), 12
end

-- Return the string that begins at a quote, and the place behind it; or nil, what is wrong, and where.
local function string_at(text, quote)
    local start = quote + 1
    local stop = find(text, '["\\%z]', start)
    if stop and byte(text, stop) == 34 then
        return sub(text, start, stop - 1), stop + 1
    end
    local pieces = {}
    while stop do
        local found = byte(text, stop)
        if found == 34 then
            return concat(pieces) .. sub(text, start, stop - 1), stop + 1
        elseif found == 0 then
            return nil, "unexpected end of string", stop
        end
        local letter = sub(text, stop + 1, stop + 1)
        local plain, length = UNESCAPED[letter], 2
        if letter == "u" then
            plain, length = unicode_at(text, stop)
            if not plain then
                return nil, "invalid unicode escape code", stop
            end
        elseif not plain then
            return nil, "invalid escape code", stop
        end
        pieces[#pieces + 1] = sub(text, start, stop - 1) .. plain
        start = stop + length
        stop = find(text, '["\\%z]', start)
    end
    return nil, "unexpected end of string", #text + 1
end

-- Return the end of the longest number that C's strtod reads here, or nil.
local function number_end(text, place)
    local _, stop = find(text, "^[-+]?0[xX]%x+%.?%x*", place)
    if not stop then
        _, stop = find(text, "^[-+]?0[xX]%.%x+", place)
    end
    if stop then
        local _, exponent = find(text, "^[pP][-+]?%d+", stop + 1)
        return exponent or stop
    end
    _, stop = find(text, "^[-+]?%d+%.?%d*", place)
    if not stop then
        _, stop = find(text, "^[-+]?%.%d+", place)
    end
    if stop then
        local _, exponent = find(text, "^[eE][-+]?%d+", stop + 1)
        return exponent or stop
    end
    _, stop = find(text, "^[-+]?[iI][nN][fF]", place)
    if stop then
        local _, long = find(text, "^[iI][nN][iI][tT][yY]", stop + 1)
        return long or stop
    end
    _, stop = find(text, "^[-+]?[nN][aA][nN]", place)
    if stop then
        local _, long = find(text, "^%([%w_]*%)", stop + 1)
        return long or stop
    end
    return nil
end

-- Return True if what begins here is a number that JSON does not know: hexadecimal, infinite, with a plus or a zero.
local function is_invalid_number(text, place)
    return find(text, "^%+", place)
        or find(text, "^%-?0[xX%d]", place)
        or find(text, "^%-?[iI][nN][fF]", place)
        or find(text, "^%-?[nN][aA][nN]", place)
end

-- Return the number that begins here, and the place behind it; or nil, what is wrong, and where.
local function number_at(config, text, place)
    local _, stop = find(text, "^%-?%d+%.?%d*", place)
    if not stop or not config.decode_invalid or find(text, "^[eExX]", stop + 1) then
        stop = (config.decode_invalid or not is_invalid_number(text, place)) and number_end(text, place)
    end
    local number = stop and tonumber(sub(text, place, stop))
    if not number then
        return nil, "invalid number", place
    end
    return number, stop + 1
end

local WORDS = { t = { "true", true, "T_BOOLEAN" }, f = { "false", false, "T_BOOLEAN" }, n = { "null", null, "T_NULL" } }

-- Return the word that begins here, and the place behind it; or nil, what is wrong, and where.
local function word_at(config, text, place)
    local word = WORDS[sub(text, place, place)]
    if word and sub(text, place, place + #word[1] - 1) == word[1] then
        return word[2], place + #word[1], word[3]
    elseif config.decode_invalid and find(text, "^[iInN+]", place) and is_invalid_number(text, place) then
        return number_at(config, text, place)
    end
    return nil, "invalid token", place
end

-- Raise an error that names the token which stands here.
local function unexpected(config, text, place, wanted)
    place = find(text, "[^ \t\n\r]", place) or #text + 1
    local first = sub(text, place, place)
    local found, value, where, kind = PUNCTUATION[first], nil, place, nil
    if not found then
        if first == '"' then
            value, found, where = string_at(text, place)
            kind = "T_STRING"
        elseif find(first, "[-%d]") then
            value, found, where = number_at(config, text, place)
            kind = "T_NUMBER"
        else
            value, found, where = word_at(config, text, place)
            kind = type(value) == "number" and "T_NUMBER" or where
        end
        if value ~= nil then
            found, where = kind, place
        end
    end
    fail(format("Expected %s but found %s at character %d", wanted, found, where))
end

-- Return the value of a JSON document.
local function decoded(config, text)
    if #text >= 2 and find(text, "^.?%z") then
        fail("JSON parser does not support UTF-16 or UTF-32")
    end
    local value_at

    local function next_token(place)
        place = find(text, "[^ \t\n\r]", place) or #text + 1
        return place, byte(text, place)
    end

    local function object_at(place, depth)
        local object, first = {}, nil
        place, first = next_token(place)
        if first == 125 then
            return object, place + 1
        end
        while true do
            if first ~= 34 then
                unexpected(config, text, place, "object key string")
            end
            local key, behind = string_at(text, place)
            if not key then
                unexpected(config, text, place, "object key string")
            end
            place, first = next_token(behind)
            if first ~= 58 then
                unexpected(config, text, place, "colon")
            end
            object[key], place = value_at(place + 1, depth)
            place, first = next_token(place)
            if first == 125 then
                return object, place + 1
            elseif first ~= 44 then
                unexpected(config, text, place, "comma or object end")
            end
            place, first = next_token(place + 1)
        end
    end

    local function array_at(place, depth)
        local array, count, first = {}, 0, nil
        place, first = next_token(place)
        if first == 93 then
            return array, place + 1
        end
        while true do
            count = count + 1
            array[count], place = value_at(place, depth)
            place, first = next_token(place)
            if first == 93 then
                return array, place + 1
            elseif first ~= 44 then
                unexpected(config, text, place, "comma or array end")
            end
            place = place + 1
        end
    end

    function value_at(place, depth)
        local first, value, behind
        place, first = next_token(place)
        if first == 34 then
            value, behind = string_at(text, place)
        elseif first == 123 or first == 91 then
            depth = depth + 1
            if depth > config.decode_depth then
                fail(format("Found too many nested data structures (%d) at character %d", depth, place))
            end
            return (first == 123 and object_at or array_at)(place + 1, depth)
        elseif first and (first == 45 or first >= 48 and first <= 57) then
            value, behind = number_at(config, text, place)
        else
            value, behind = word_at(config, text, place)
        end
        if value == nil then
            unexpected(config, text, place, "value")
        end
        return value, behind
    end

    local value, place = value_at(1, 0)
    place = next_token(place)
    if place <= #text and byte(text, place) ~= 0 then
        unexpected(config, text, place, "the end")
    end
    return value
end

return decoded
