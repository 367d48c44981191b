-- cmsgpack: MessagePack, as lua-cmsgpack 0.4.0 reads and writes it in Redis.

local shared = ...
local support, binary = shared.support, shared.binary
local error, next, rawget, select, type = error, next, rawget, select, type
local byte, char, concat, floor, format = string.byte, string.char, table.concat, math.floor, string.format
local sub, unpack = string.sub, unpack
local fail, integer_of, string_of = support.fail, support.integer, support.string
local from_bytes, to_bytes, to_float = binary.integer, binary.bytes, binary.float
local double_of, float_of = binary.double_of, binary.float_of
local MAX_NESTING = 16
local MAX_SLOTS = 7990 -- on the stack of a function in C

-- Packing -------------------------------------------------------------------------------------------------------------

-- Return the first bytes of something of a length: in the type's byte, or behind the one of its kind.
local function header(length, short, most, byte_1, byte_2, byte_4)
    if length <= most then
        return char(short + length)
    elseif byte_1 and length <= 0xFF then
        return char(byte_1, length)
    elseif length <= 0xFFFF then
        return char(byte_2) .. to_bytes(length, 2)
    end
    return char(byte_4) .. to_bytes(length % 2 ^ 32, 4)
end

local function packed_integer(number)
    if number >= 0 then
        if number <= 0x7F then
            return char(number)
        elseif number <= 0xFF then
            return "\204" .. char(number)
        elseif number <= 0xFFFF then
            return "\205" .. to_bytes(number, 2)
        elseif number <= 0xFFFFFFFF then
            return "\206" .. to_bytes(number, 4)
        end
        return "\207" .. to_bytes(number, 8)
    elseif number >= -32 then
        return char(256 + number)
    elseif number >= -0x80 then
        return "\208" .. char(256 + number)
    elseif number >= -0x8000 then
        return "\209" .. to_bytes(number, 2)
    elseif number >= -0x80000000 then
        return "\210" .. to_bytes(number, 4)
    end
    return "\211" .. to_bytes(number, 8)
end

local function packed_number(number)
    if number >= -2 ^ 63 and number < 2 ^ 63 and number == floor(number) then
        return packed_integer(number)
    end
    local short = to_float(number, 4)
    if float_of(short) == number then
        return "\202" .. short
    end
    return "\203" .. to_float(number, 8)
end

-- Return True if the keys of a table are 1, 2, 3 and so on; and how many they are.
local function is_array(items)
    local count, highest, array = 0, 0, true
    for key in next, items do
        if type(key) ~= "number" or key <= 0 or key ~= floor(key) or key >= 2 ^ 31 then
            array = false
        elseif key > highest then
            highest = key
        end
        count = count + 1
    end
    return array and highest == count, count
end

local function pack_value(pieces, value, level)
    local kind = type(value)
    if kind == "string" then
        pieces[#pieces + 1] = header(#value, 0xA0, 31, 0xD9, 0xDA, 0xDB) .. value
    elseif kind == "number" then
        pieces[#pieces + 1] = packed_number(value)
    elseif kind == "boolean" then
        pieces[#pieces + 1] = value and "\195" or "\194"
    elseif kind ~= "table" or level == MAX_NESTING then
        pieces[#pieces + 1] = "\192"
    else
        local array, count = is_array(value)
        if array then
            pieces[#pieces + 1] = header(count, 0x90, 15, nil, 0xDC, 0xDD)
            for place = 1, count do
                pack_value(pieces, rawget(value, place), level + 1)
            end
            return
        end
        pieces[#pieces + 1] = header(count, 0x80, 15, nil, 0xDE, 0xDF)
        for key, item in next, value do
            pack_value(pieces, key, level + 1)
            pack_value(pieces, item, level + 1)
        end
    end
end

-- Unpacking -----------------------------------------------------------------------------------------------------------

-- Return the place behind so many bytes.
local function behind(text, place, length)
    place = place + length
    if place > #text + 1 then
        fail("Missing bytes in input.")
    end
    return place
end

-- Return a function that reads an integer of so many bytes.
local function integers(length, signed)
    return function(text, place)
        local stop = behind(text, place, length)
        return from_bytes(text, place, length, signed), stop
    end
end

local function floats(length, read)
    return function(text, place)
        local stop = behind(text, place, length)
        return read(sub(text, place, stop - 1)), stop
    end
end

local function raw(text, place, _, length)
    local stop = behind(text, place, length)
    return sub(text, place, stop - 1), stop
end

local unpack_value

-- A nested value comes with the slots that Redis's library has then taken: a table's, and a key's.
local function array(text, place, slots, length)
    local items = {}
    for index = 1, length do
        items[index], place = unpack_value(text, place, slots + 2)
    end
    return items, place
end

local function map(text, place, slots, length)
    local items, key, value = {}, nil, nil
    for _ = 1, length do
        key, place = unpack_value(text, place, slots + 1)
        value, place = unpack_value(text, place, slots + 2)
        if key == nil then
            error("table index is nil", 0)
        elseif key ~= key then
            error("table index is NaN", 0)
        end
        items[key] = value
    end
    return items, place
end

-- Return a function that reads what has its length in so many bytes before it.
local function sized(read, length)
    return function(text, place, slots)
        local stop = behind(text, place, length)
        return read(text, stop, slots, from_bytes(text, place, length))
    end
end

local function constant(value)
    return function(_, place)
        return value, place
    end
end

local READERS = {
    [0xC0] = constant(nil),
    [0xC2] = constant(false),
    [0xC3] = constant(true),
    [0xCA] = floats(4, float_of),
    [0xCB] = floats(8, double_of),
    [0xCC] = integers(1),
    [0xCD] = integers(2),
    [0xCE] = integers(4),
    [0xCF] = integers(8, true), -- as Redis has it
    [0xD0] = integers(1, true),
    [0xD1] = integers(2, true),
    [0xD2] = integers(4, true),
    [0xD3] = integers(8, true),
    [0xD9] = sized(raw, 1),
    [0xDA] = sized(raw, 2),
    [0xDB] = sized(raw, 4),
    [0xDC] = sized(array, 2),
    [0xDD] = sized(array, 4),
    [0xDE] = sized(map, 2),
    [0xDF] = sized(map, 4),
}

-- Return the value that begins here, and the place behind it.
function unpack_value(text, place, slots)
    local first = byte(text, place)
    if slots > MAX_SLOTS then
        fail("stack overflow (too many return values at once; use unpack_one or unpack_limit instead.)")
    elseif not first then
        fail("Missing bytes in input.")
    elseif first < 0x80 then
        return first, place + 1
    elseif first < 0x90 then
        return map(text, place + 1, slots, first - 0x80)
    elseif first < 0xA0 then
        return array(text, place + 1, slots, first - 0x90)
    elseif first < 0xC0 then
        return raw(text, place + 1, slots, first - 0xA0)
    elseif first >= 0xE0 then
        return first - 256, place + 1
    elseif not READERS[first] then
        fail("Bad data format in input.")
    end
    return READERS[first](text, place + 1, slots)
end

-- Return values: all of them, or the offset of the next, which is -1 at the end, and so many from an offset.
local function unpack_values(text, limit, offset)
    local all = limit == 0 and offset == 0
    if offset < 0 or limit < 0 then
        fail(format("Invalid request to unpack with offset of %d and limit of %d.", offset, #text))
    elseif offset > #text then
        fail(format("Start offset %d greater than input length %d.", offset, #text))
    end
    local values, count, place = {}, 0, offset + 1
    while place <= #text and (all or count < limit) do
        count = count + 1
        values[count], place = unpack_value(text, place, count)
    end
    if all then
        return unpack(values, 1, count)
    end
    values[0] = place > #text and -1 or place - 1
    return unpack(values, 0, count)
end

return {
    _NAME = "cmsgpack",
    _VERSION = "lua-cmsgpack 0.4.0",
    _COPYRIGHT = "Copyright (C) 2012, Salvatore Sanfilippo",
    _DESCRIPTION = "MessagePack C implementation for Lua",
    pack = support.one(function(...)
        if select("#", ...) == 0 then
            fail("MessagePack pack needs input.", 0)
        end
        local pieces = {}
        for argument = 1, select("#", ...) do
            pack_value(pieces, (select(argument, ...)), 0)
        end
        return concat(pieces)
    end),
    unpack = support.several(function(...)
        return unpack_values(string_of((...), 1, select("#", ...)), 0, 0)
    end),
    unpack_one = support.several(function(...)
        local text, offset = ...
        offset = offset ~= nil and integer_of(offset, 2) or 0
        return unpack_values(string_of(text, 1, select("#", ...)), 1, offset)
    end),
    unpack_limit = support.several(function(...)
        local text, limit, offset = ...
        limit, offset = integer_of(limit, 2, select("#", ...)), offset ~= nil and integer_of(offset, 3) or 0
        return unpack_values(string_of(text, 1, select("#", ...)), limit, offset)
    end),
}
