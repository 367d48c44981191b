-- What the libraries have in common. Their work ends by `fail`, and the function that a script calls raises the error
-- as a function in C does: with the position of its caller, and its own name as the caller knows it.

local error, floor, format, getinfo = error, math.floor, string.format, debug.getinfo
local pcall, select, tonumber, type, unpack = pcall, select, tonumber, type, unpack
local support, failure = {}, {}

-- End the work with an error about an argument, or about no particular one.
function support.fail(text, argument)
    failure.text, failure.argument = text, argument
    error(failure)
end

local fail = support.fail

-- Raise the error that work has ended with. The caller's caller is where it happened.
local function raise(problem)
    if problem ~= failure then
        error(problem, 0)
    end
    local text, argument = failure.text, failure.argument
    if argument then
        local info = getinfo(2, "n")
        if info.namewhat == "method" then -- self does not count
            argument = argument - 1
        end
        if info.namewhat == "method" and argument == 0 then
            text = format("calling '%s' on bad self (%s)", info.name, text)
        else
            text = format("bad argument #%d to '%s' (%s)", argument, info.name or "?", text)
        end
    end
    error(text, 3)
end

-- Return the function for scripts that does some work, which has one result.
function support.one(work)
    return function(...)
        local done, result = pcall(work, ...)
        if not done then
            raise(result)
        end
        return result
    end
end

local function counted(...)
    return select("#", ...), { ... }
end

-- Return the function for scripts that does some work, which has any number of results.
function support.several(work)
    return function(...)
        local count, results = counted(pcall(work, ...))
        if not results[1] then
            raise(results[2])
        end
        return unpack(results, 2, count)
    end
end

local function refuse_type(wanted, value, argument, count)
    local found = count and argument > count and "no value" or type(value)
    fail(wanted .. " expected, got " .. found, argument)
end

-- Return an argument as a number, which a string may hold. `argument` is its place, `count` how many there are.
function support.number(value, argument, count)
    return tonumber(value) or refuse_type("number", value, argument, count)
end

-- Return a number without its fraction, as an integer of 64 bits.
function support.truncated(number)
    number = number < 0 and -floor(-number) or floor(number)
    return number >= -2 ^ 63 and number < 2 ^ 63 and number or -2 ^ 63
end

-- Return an argument as an integer.
function support.integer(value, argument, count)
    return support.truncated(support.number(value, argument, count))
end

-- Return an argument as a string, which a number becomes.
function support.string(value, argument, count)
    if type(value) ~= "string" and type(value) ~= "number" then
        refuse_type("string", value, argument, count)
    end
    return value .. ""
end

return support
