-- Numbers as bytes, the highest first. Lua 5.1 has doubles only: a word of 64 bits is two of 32, so that no bit is lost.

local byte, char, floor, frexp, ldexp = string.byte, string.char, math.floor, math.frexp, math.ldexp
local find, rep, sub, tostring = string.find, string.rep, string.sub, tostring
local WORD = 2 ^ 32
local NAN = 0 / 0
if find(tostring(NAN), "^%-") then
    NAN = -NAN -- its sign is the processor's choice
end
local binary = {}

local function word_bytes(word)
    return char(floor(word / 0x1000000), floor(word / 0x10000) % 256, floor(word / 256) % 256, word % 256)
end

-- Return the lowest bytes of an integer from -2^63 to 2^64; beyond eight they are 0.
function binary.bytes(number, length)
    if length <= 4 then
        return sub(word_bytes(number % WORD), 5 - length)
    end
    local high = floor(number / WORD)
    local eight = word_bytes(high % WORD) .. word_bytes(number - high * WORD)
    return length <= 8 and sub(eight, 9 - length) or rep("\0", length - 8) .. eight
end

-- Return the integer that so many bytes of a text are: the lowest eight, and the sign at the bit of an x86 processor.
function binary.integer(text, place, length, signed)
    local high, low, stop = 0, 0, place + length
    for index = length > 8 and stop - 8 or place, stop - 1 do
        if index < stop - 4 then
            high = high * 256 + byte(text, index)
        else
            low = low * 256 + byte(text, index)
        end
    end
    if signed then
        local bit = (length * 8 - 1) % 64
        if bit >= 32 then
            local power = 2 ^ (bit - 32)
            if high >= power then
                high = high % power - power
            end
        elseif high > 0 or low >= 2 ^ bit then
            high, low = 0, low % 2 ^ bit - 2 ^ bit
        end
    end
    return high * WORD + low
end

-- Return a number as an IEEE 754 float of 4 or 8 bytes, rounded to the nearest, as C does.
function binary.float(number, length)
    local bits, bias = 52, 1023
    if length == 4 then
        bits, bias = 23, 127
    end
    local sign = (number < 0 or number == 0 and 1 / number < 0) and 1 or 0
    local exponent, mantissa = 2 * bias + 1, 0
    if number ~= number then
        mantissa = 2 ^ (bits - 1)
        sign = find(tostring(number), "^%-") and 1 or 0
    elseif number - number == 0 then
        local fraction, power = frexp(sign == 1 and -number or number)
        exponent = power + bias - 1
        if fraction == 0 or exponent <= 0 then -- zero, or too small for a leading 1
            exponent, mantissa = 0, ldexp(fraction, power + bias - 1 + bits)
        else
            mantissa = (fraction * 2 - 1) * 2 ^ bits
        end
        mantissa = mantissa + 2 ^ 52 - 2 ^ 52
        if mantissa == 2 ^ bits and exponent > 0 then
            exponent, mantissa = exponent + 1, 0
        end
        if exponent > 2 * bias then
            exponent, mantissa = 2 * bias + 1, 0
        end
    end
    if length == 4 then
        return word_bytes(sign * 2 ^ 31 + exponent * 2 ^ 23 + mantissa)
    end
    local high = floor(mantissa / WORD)
    return word_bytes(sign * 2 ^ 31 + exponent * 2 ^ 20 + high) .. word_bytes(mantissa - high * WORD)
end

local function float_of_parts(sign, exponent, mantissa, bits, bias)
    local number
    if exponent == 2 * bias + 1 then
        number = mantissa == 0 and 1 / 0 or NAN
    elseif exponent == 0 then
        number = ldexp(mantissa, 1 - bias - bits)
    else
        number = ldexp(mantissa + 2 ^ bits, exponent - bias - bits)
    end
    return sign == 1 and -number or number
end

-- Return the number that a float of 4 bytes is.
function binary.float_of(text)
    local word = binary.integer(text, 1, 4)
    return float_of_parts(floor(word / 2 ^ 31), floor(word / 2 ^ 23) % 256, word % 2 ^ 23, 23, 127)
end

-- Return the number that a float of 8 bytes is.
function binary.double_of(text)
    local high, low = binary.integer(text, 1, 4), binary.integer(text, 5, 4)
    local mantissa = high % 2 ^ 20 * WORD + low
    return float_of_parts(floor(high / 2 ^ 31), floor(high / 2 ^ 20) % 2048, mantissa, 52, 1023)
end

return binary
