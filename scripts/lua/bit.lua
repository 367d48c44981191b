-- bit: operations on the lowest 32 bits of numbers, as Lua BitOp has them.
-- Lua 5.1 has no integers. A word is a number from 0 to 2^32 - 1; AND of four bits is looked up, OR and XOR follow from it.

local shared = ...
local support = shared.support
local select = select
local abs, floor, frexp = math.abs, math.floor, math.frexp
local format, sub, upper = string.format, string.sub, string.upper
local one = support.one
local WORD = 2 ^ 32
local MIDDLE = 2 ^ 52 + 2 ^ 51 -- added to a number, it leaves the rounded integer in the lowest bits

local AND = {}
for left = 0, 15 do
    for right = 0, 15 do
        local both = 0
        for place = 0, 3 do
            local power = 2 ^ place
            if left % (2 * power) >= power and right % (2 * power) >= power then
                both = both + power
            end
        end
        AND[left * 16 + right] = both
    end
end

-- Return the word of a number: the lowest 32 bits of the sum's mantissa.
local function word_of(number)
    local sum = number + MIDDLE
    if sum >= 2 ^ 52 and sum < 2 ^ 53 then
        return sum % WORD
    elseif sum ~= sum or sum - sum ~= 0 then -- not a number, or infinite
        return 0
    end
    return (frexp(abs(sum)) * 2 ^ 53) % WORD
end

-- Return the word of one of the arguments.
local function argument_word(argument, ...)
    return word_of(support.number((select(argument, ...)), argument, select("#", ...)))
end

local function signed(word)
    return word >= 2 ^ 31 and word - WORD or word
end

local function both(left, right)
    local word, power = 0, 1
    for _ = 1, 8 do
        local low_left, low_right = left % 16, right % 16
        word = word + AND[low_left * 16 + low_right] * power
        left, right, power = (left - low_left) / 16, (right - low_right) / 16, power * 16
    end
    return word
end

-- Return a function that joins the words of all its arguments.
local function joining(join)
    return one(function(...)
        local word = argument_word(1, ...)
        for argument = select("#", ...), 2, -1 do
            word = join(word, argument_word(argument, ...))
        end
        return signed(word)
    end)
end

-- Return a function of a word and a number of bits from 0 to 31.
local function shifting(shift)
    return one(function(...)
        local word, bits = argument_word(1, ...), argument_word(2, ...) % 32
        return signed(shift(word, bits))
    end)
end

local function left(word, bits)
    return word * 2 ^ bits % WORD
end

local function right(word, bits)
    return floor(word / 2 ^ bits)
end

return {
    band = joining(both),
    bor = joining(function(first, second)
        return first + second - both(first, second)
    end),
    bxor = joining(function(first, second)
        return first + second - 2 * both(first, second)
    end),
    lshift = shifting(left),
    rshift = shifting(right),
    arshift = shifting(function(word, bits)
        return floor(signed(word) / 2 ^ bits) % WORD
    end),
    rol = shifting(function(word, bits)
        return left(word, bits) + right(word, 32 - bits)
    end),
    ror = shifting(function(word, bits)
        return right(word, bits) + left(word, 32 - bits)
    end),
    tobit = one(function(...)
        return signed(argument_word(1, ...))
    end),
    bnot = one(function(...)
        return signed(WORD - 1 - argument_word(1, ...))
    end),
    bswap = one(function(...)
        local word, swapped = argument_word(1, ...), 0
        for _ = 1, 4 do
            swapped = swapped * 256 + word % 256
            word = floor(word / 256)
        end
        return signed(swapped)
    end),
    tohex = one(function(...)
        local text = format("%08x", argument_word(1, ...))
        local digits = select("#", ...) < 2 and 8 or signed(argument_word(2, ...))
        if digits < 0 then
            digits, text = -digits, upper(text)
        end
        return digits >= 8 and text or sub(text, 9 - digits)
    end),
}
