-- struct: values as the bytes of a struct in C, as Redis has it on a machine of 64 bits that stores the lowest byte first.

local shared = ...
local support, binary = shared.support, shared.binary
local select, tonumber, unpack = select, tonumber, unpack
local find, format, lower, rep, reverse, sub = string.find, string.format, string.lower, string.rep, string.reverse, string.sub
local concat, fail, floor = table.concat, support.fail, math.floor
local SIZES = { b = 1, B = 1, h = 2, H = 2, l = 8, L = 8, T = 8, f = 4, d = 8, x = 1 }
local NUMBERS, VALUES = "[bBhHlLTiIfd]", "[bBhHlLTiIfdcs]"
local MAX_INTEGER, MAX_ALIGNMENT, MAX_INT, MAX_RESULTS = 32, 8, 2 ^ 31 - 1, 7990

-- Return the number that a format has here, or a default, and the place behind it.
local function number_in(text, place, default)
    local _, stop = find(text, "^%d+", place)
    if not stop then
        return default, place
    end
    local number = tonumber(sub(text, place, stop))
    if number > MAX_INT then
        fail("integral size overflow")
    end
    return number, stop + 1
end

-- Apply a letter that says how others are read.
local function control(state, letter)
    if letter == ">" or letter == "<" then
        state.lowest_first = letter == "<"
    elseif letter == "!" then
        local power, alignment = 1, nil
        alignment, state.place = number_in(state.text, state.place, MAX_ALIGNMENT)
        while power < alignment do
            power = power * 2
        end
        if power ~= alignment then
            fail(format("alignment %d is not a power of 2", alignment))
        end
        state.alignment = alignment
    elseif letter ~= " " then
        fail("invalid format option '" .. letter .. "'", 1)
    end
end

local function both(left, right)
    local result, power = 0, 1
    while power <= right do
        if left % (2 * power) >= power and right % (2 * power) >= power then
            result = result + power
        end
        power = power * 2
    end
    return result
end

-- Return how many bytes stand before a value of this size. A size that is no power of 2 has the result that C has.
local function padding(state, letter, size)
    if size == 0 or letter == "c" then
        return 0
    elseif size > state.alignment then
        size = state.alignment
    end
    return both(size - both(state.position, size - 1), size - 1)
end

local function format_of(...)
    return support.string((...), 1, select("#", ...))
end

local function start(text, position)
    local _, stop = find(text, "^%Z*")
    return { text = sub(text, 1, stop), place = 1, position = position, lowest_first = true, alignment = 1 }
end

-- Return the next letter of a format, its size, and how many bytes stand before it, which the position then includes.
local function letter_in(state)
    local letter = sub(state.text, state.place, state.place)
    local size = SIZES[letter] or 0
    if letter == "" then
        return nil
    end
    state.place = state.place + 1
    if letter == "c" then
        size, state.place = number_in(state.text, state.place, 1)
    elseif letter == "i" or letter == "I" then
        size, state.place = number_in(state.text, state.place, 4)
        if size > MAX_INTEGER then
            fail(format("integral size %d is larger than limit of %d", size, MAX_INTEGER))
        end
    end
    local gap = padding(state, letter, size)
    state.position = state.position + gap
    return letter, size, gap
end

-- Return an integer as C makes it of a double on an x86 processor.
local function integer_of(number)
    if number ~= number then
        return -2 ^ 63
    elseif number < 0 then
        return support.truncated(number)
    end
    return number < 2 ^ 64 and floor(number) or 0
end

local function packed_number(state, letter, size, number)
    local bytes
    if letter == "f" or letter == "d" then
        bytes = binary.float(number, size)
    else
        bytes = binary.bytes(integer_of(number), size)
    end
    return state.lowest_first and reverse(bytes) or bytes
end

local function packed_string(letter, size, text, argument)
    if #text < size then
        fail("string too short", argument + 1)
    end
    return (size > 0 and sub(text, 1, size) or text) .. (letter == "s" and "\0" or "")
end

local function pack(...)
    local state, pieces = start(format_of(...), 0), {}
    local given, argument = { ... }, 1 -- one that is missing is nil, and not "no value"
    for letter, size, gap in letter_in, state do
        local bytes = ""
        if letter == "x" then
            bytes = "\0"
        elseif find(letter, "[cs]") then
            argument = argument + 1
            bytes = packed_string(letter, size, support.string(given[argument], argument), argument)
        elseif find(letter, NUMBERS) then
            argument = argument + 1
            bytes = packed_number(state, letter, size, support.number(given[argument], argument))
        else
            control(state, letter)
        end
        pieces[#pieces + 1] = rep("\0", gap) .. bytes
        state.position = state.position + #bytes
    end
    return concat(pieces)
end

local function unpacked_number(state, letter, bytes)
    bytes = state.lowest_first and reverse(bytes) or bytes
    if letter == "f" then
        return binary.float_of(bytes)
    elseif letter == "d" then
        return binary.double_of(bytes)
    end
    return binary.integer(bytes, 1, #bytes, letter == lower(letter))
end

local function check_room(data, position, size)
    if size < 0 or size > #data or position < 0 or position > #data - size then
        fail("data string too short", 2)
    end
end

local function unpack_values(...)
    local text, data, offset = ...
    text, data = format_of(...), support.string(data, 2, select("#", ...))
    offset = offset == nil and 1 or support.integer(offset, 3)
    local values, count, state = {}, 0, start(text, offset - 1)
    if offset == 0 then
        fail("offset must be 1 or greater", 3)
    end
    for letter, size in letter_in, state do
        local position = state.position
        check_room(data, position, size)
        if count > MAX_RESULTS then
            fail("stack overflow (too many results)")
        elseif letter == "c" and size == 0 then
            size = tonumber(values[count])
            if not size then
                fail("format 'c0' needs a previous size")
            end
            size, count = integer_of(size), count - 1
            check_room(data, position, size)
        elseif letter == "s" then
            local stop = find(data, "%z", position + 1)
            if not stop then
                fail("unfinished string in data")
            end
            size = stop - position
        end
        if find(letter, VALUES) then
            count = count + 1
            values[count] = sub(data, position + 1, position + size - (letter == "s" and 1 or 0))
            if find(letter, NUMBERS) then
                values[count] = unpacked_number(state, letter, values[count])
            end
        elseif letter ~= "x" then
            control(state, letter)
        end
        state.position = position + size
    end
    values[count + 1] = state.position + 1
    return unpack(values, 1, count + 1)
end

local function size_of(...)
    local state = start(format_of(...), 0)
    for letter, size in letter_in, state do
        if letter == "s" or letter == "c" and size == 0 then
            fail("option '" .. (letter == "s" and "s" or "c0") .. "' has no fixed size", 1)
        elseif not find(letter, "%w") then
            control(state, letter)
        end
        state.position = state.position + size
    end
    return state.position
end

return { pack = support.one(pack), unpack = support.several(unpack_values), size = support.one(size_of) }
