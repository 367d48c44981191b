"""Scripts whose replies are the same in Redis 7.0: what a script can see, convert, and do wrong."""

# ruff: noqa: E501 - a line is a script

from __future__ import annotations

SCRIPTS = r"""
error()
return redis.call('set','s','x') .. redis.call('lpush','s',1)
return {1,2.7,'x',nil,4}
return pcall(error,{err='x'})
return {err='a b'}
return redis.error_reply('foo')
return redis.error_reply('-foo bar')
return redis.error_reply('ERR foo bar')
return redis.pcall('incr')
local a = redis.pcall('nosuch'); return {a.err}
x(
return getmetatable(_G)==nil
rawset(_G,'a',1)
getmetatable('').x=1
return redis.call('blpop','nokey',0)
return redis.call('eval','return 1',0)
return redis.call('multi')
return redis.call()
return redis.call({})
return redis.call('set','a',true)
return print
local function f() error('deep') end; f()
local function f() error('deep') end; return f()
local function f() redis.call('incr') end; return f()
local t={} ; t.x.y=1
string.rep()
return tostring(nil)..nil
local f=loadstring('return foo'); return f()
return redis.sha1hex()
redis.log('x')
redis.log(7,'x')
redis.setresp(4)
return redis.status_reply('foo')
return redis.status_reply(1)
return {ok=1}
return {err=1}
return string.dump
return redis.call('select','x')
return collectgarbage('count')>0
return pcall(redis.call,'incr')
local ok,e=pcall(redis.call,'incr'); local t={} for k,v in pairs(e) do t[#t+1]=k..'='..tostring(v) end table.sort(t) return t
local ok,e=pcall(error,'x'); return type(e)
local ok,e=pcall(function() return foo end); return e
return redis.call('ping','a','b')
return redis.call('lpush','s','1')
return {redis.pcall('lpush','s','1').err}
return redis.set_repl(7)
return redis.set_repl(77)
return redis.replicate_commands()
return {redis.REDIS_VERSION, redis.REDIS_VERSION_NUM, redis.LOG_DEBUG, redis.LOG_WARNING, redis.REPL_ALL, redis.REPL_AOF,redis.REPL_REPLICA, redis.REPL_NONE}
return redis.breakpoint()
return redis.debug('x')
return {double=3.5}
return {map={a=1}}
return {set={a=true}}
return true
return false
return -3.9
return 1e300
return 0/0
return _VERSION
return coroutine.wrap(function() return redis.call('ping') end)()
error('x',0)
error('x',2)
return tostring(1e15)..' '..tostring(0.1)
return redis.call('set','x',1e17), redis.call('get','x')
return {redis.call('set','x',12345678901234567890), redis.call('get','x')}
return {redis.call('set','x',0.1), redis.call('get','x')}
return loadstring(string.char(27)..'Lua')
return xpcall
__redis__err__handler('x')
return type(__redis__err__handler('x'))
return #KEYS
KEYS={1}
KEYS[1]='x' return KEYS[1]
redis.setresp(3) redis.call('del','h') redis.call('hset','h','f','v') local r=redis.call('hgetall','h') return type(r.map)
redis.setresp(3) return redis.call('hgetall','h')
redis.setresp(3) redis.call('sadd','ss','a','b') local r=redis.call('smembers','ss') return r
redis.setresp(3) redis.call('zadd','z',1.5,'a',2,'b') return redis.call('zrange','z',0,-1,'withscores')
return redis.call('zrange','z',0,-1,'withscores')
redis.setresp(3) return redis.call('zscore','z','a')
return redis.call('zscore','z','a')
redis.setresp(3) return {redis.call('zscore','z','nope'), 1}
redis.setresp(3) return {1, redis.call('get','nope'), 1}
return {1, redis.call('get','nope'), 1}
redis.setresp(3) return true
redis.setresp(3) return false
redis.setresp(3) return {true,false,nil,1}
return {true,false,1}
return {big_number='12345678901234567890123'}
return {verbatim_string={string='abc',format='txt'}}
return {verbatim_string={string='abc',format='mkdx'}}
return {verbatim_string={string='abc',format='m'}}
return {map={a=1,b={c=2},[3]='x'}}
return {set={a=true,b=1,[7]=1}}
return {double=1e400}
return {double=-1e400}
return {ok='a\nb'}
return {err='a\nb'}
return {ok='x',err='y'}
return type(redis.call('get','nope'))
redis.setresp(3) return type(redis.call('get','nope'))
return redis.call('mget','a','b','s')
return redis.call('lrange','nol',0,-1)
redis.call('rpush','l','a','b','c') return redis.call('lrange','l',0,-1)
return redis.call('xadd','x','1-1','a','b')
return redis.call('xrange','x','-','+')
redis.setresp(3) return redis.call('xread','streams','x','0')
return redis.call('xread','block','1000','streams','x','$')
return redis.call('xinfo','stream','x')
return redis.call('config','get','x')
return redis.call('object','encoding','s')
return redis.call('object','nosuch','s')
return redis.call('object')
return redis.call('subscribe','x')
return redis.call('publish','x','y')
return redis.call('hello','3')
return redis.call('auth','x')
return redis.call('script','load','return 1')
return redis.call('flushall')
return redis.call('exec')
return redis.call('watch','x')
return redis.call('command','count')>100
return redis.pcall('get')
return {redis.pcall('get')}
local r=redis.pcall('get') local t={} for k,v in pairs(r) do t[#t+1]=k..'='..tostring(v) end table.sort(t) return t
local ok,r=pcall(redis.call,'get') return {tostring(ok),type(r),r}
local ok,r=xpcall(function() redis.call('get') end,function(e) return e end) local t={type(r)} if type(r)=='table' then for k,v in pairs(r) do t[#t+1]=k..'='..tostring(v) end end table.sort(t) return t
local co=coroutine.create(function() redis.call('get') end) local ok,e=coroutine.resume(co) return {tostring(ok),type(e)}
local co=coroutine.create(function() error('x') end) local ok,e=coroutine.resume(co) return {tostring(ok),e}
local t={} for k in pairs(redis) do t[#t+1]=k end table.sort(t) return t
local t={} for k in pairs(string) do t[#t+1]=k end table.sort(t) return t
local t={} for k in pairs(table) do t[#t+1]=k end table.sort(t) return t
local t={} for k in pairs(math) do t[#t+1]=k end table.sort(t) return t
local t={} for k in pairs(coroutine) do t[#t+1]=k end table.sort(t) return t
math.randomseed(42) local t={} for i=1,20 do t[i]=math.random(1000000) end return t
math.randomseed(-42) local t={} for i=1,20 do t[i]=math.random(1000000) end return t
math.randomseed(4294967297) local t={} for i=1,20 do t[i]=math.random(1000000) end return t
return math.random(0)
return math.random(5,1)
return math.random(1,2,3)
return math.random('x')
return string.rep('x',3)
return ('x'):rep(3)
return ('abc'):find('b')
return ('abc'):gsub('b','x')
return string.format('%5.2f|%d|%s|%q',1.234,7,'x','y"')
return string.format('%d','x')
return ('x'):bad()
return nil + 1
return #5
return {} < {}
return 'a' < 1
local a = nil; a.b = 1
foo()
string.find()
string.find(nil,'x')
table.concat({1,{},3})
return table.concat({1,2,3},',')
return unpack({1,2,3})
return select('#',1,2,3)
return select(-1,1,2,3)
return next({})
return type(next)
return rawget(_G,'redis')~=nil
return rawget(_G,'nosuch')
return rawequal(redis,redis)
return assert(false)
return assert(false,'msg')
return assert(nil,{err='tbl'})
return assert(1,'x')
return tonumber('0x10')
return tonumber('z',36)
return tonumber('abc')
return loadstring('return 1+1')()
return loadstring('x(')
local f,e=loadstring('x(') return e
local f=load(function() return nil end) return type(f)
local p={'return ','7'} local i=0 return load(function() i=i+1 return p[i] end)()
return pcall(loadstring)
goto x
return 1,2,3
return
local x <const> = 1
return "a\0b"
return {1,2,{3,{4,nil,5}}}
return {[1]='a',[2]='b',[4]='d'}
return {a=1}
return setmetatable({}, {__index=function(t,k) return 5 end})
return getmetatable('abc').__index==string
return #ARGV
return redis.sha1hex('')
return redis.sha1hex('abc')
return redis.sha1hex(1)
return redis.sha1hex('a','b')
return redis.error_reply('My Err')
return redis.error_reply()
return redis.error_reply({})
return redis.status_reply()
return redis.status_reply('FINE')
return {redis.status_reply('FINE'), redis.error_reply('My Err')}
return redis.log(redis.LOG_WARNING,'hello','there')
return redis.log('x','y')
redis.setresp()
redis.setresp(3,2)
redis.setresp('3') return redis.call('zscore','z','a')
redis.set_repl()
redis.set_repl(redis.REPL_NONE) return redis.call('set','q',1)
return redis.acl_check_cmd('nosuch')
return redis.acl_check_cmd()
return collectgarbage()
return type(collectgarbage('count'))
return collectgarbage('nosuch')
return type(gcinfo())
return os
return io
return debug
return python
return getfenv
return setfenv
return newproxy
return dofile
return loadfile
return require
return module
return package
_G.foo=1
_G.redis=1
return _G.foo
string.foo=1
math.random=1
KEYS='x'
redis.call=nil
local function f() error({err='MYERR hello'}) end f()
error({err='MYERR hello',x=1})
local ok,e=pcall(error,{err='MYERR hello'}) return e
local ok,e=pcall(error,{x='MYERR hello'}) return type(e)
local ok,e=pcall(error,nil) return type(e)
local ok,e=pcall(error) return type(e)
error(nil)
error(12)
error(true)
error('multi\nline')
\n\n\nerror('line 4')
local function a() local function b() error('deep') end b() end\na()
return redis.call('set')
local x = redis.call('get','a','b')
if true then\n return redis.call('incr','s') end
redis.call('set','s','abc') return redis.call('incr','s')
redis.pcall('incr','s') return 'after'
return redis.call('GET','s')
return redis.call('gEt','s')
return redis.call('get',1)
return redis.call('get',1.5)
return redis.call('set','n',1/0), 1
redis.call('set','n',1/0) return redis.call('get','n')
redis.call('set','n',0/0) return redis.call('get','n')
redis.call('set','n',2^53) return redis.call('get','n')
redis.call('set','n',2^63) return redis.call('get','n')
redis.call('set','n',-2^63) return redis.call('get','n')
redis.call('set','n',1e16) return redis.call('get','n')
redis.call('set','n',123456789012345680) return redis.call('get','n')
redis.call('set','n',3.14159) return redis.call('get','n')
return 9007199254740993
return 2^63
return -2^63
return 2^62
return {2^63,-1.5,1e18}
return redis.call('incrby','cnt',9007199254740993)
return redis.call('lpos','l','b')
return redis.call('sort','l','alpha','desc')
return redis.call('scan','0')[1]
return redis.call('type','l')
return redis.call('type','l').ok
return redis.call('type','l')['ok']=='list'
return {redis.call('type','l')}
return redis.call('geoadd','g',1,2,'m')
return redis.call('geopos','g','m','x')
return redis.call('hrandfield','h','1')
return redis.call('exists','h')
return cjson==nil
while true do local x = 1 break end return 'ok'
local function r(n) if n==0 then return 'done' end return r(n-1) end return r(100000)
local function r(n) if n==0 then return 0 end return 1+r(n-1) end return r(1000000)
local s=string.rep('(',300)..'1'..string.rep(')',300) return loadstring('return '..s)
return string.rep('a',10):gsub('.',function(c) return c:upper() end)
return table.getn({1,2,3})
return table.maxn({1,2,3})
local t={3,1,2} table.sort(t) return t
local t={3,1,2} table.sort(t,function(a,b) return a>b end) return t
table.sort({1,'x'})
return math.floor(3.7)
return math.pi
return tostring(3.0)..tostring(2^53)..tostring(-0)
return 10/3
return 7%3
return -7%3
return 2^0.5
return "10"+5
return "abc"+1
return 10 .. 20
return redis.call('exists','db1key')
return redis.call('move','l',5)
return unpack({}, 0, 2147483647)
return unpack({}, -2147483648, 2147483647)
return unpack({1, 2}, -2147483648)
return unpack({1, 2}, 0/0, 2147483647)
return {unpack({1, 2}, '1', 2)}, {unpack({}, 2147483640, 2147483647)}
return select('#', unpack({}, 1, 7990))
return unpack()
return unpack({}, {})
return unpack(1 == not 1)
local x = 1 return redis.call(x and 'nosuch' or 'get', x == 1)
return unpack({}, 1, {})
return unpack(nil)
local function f(...) local a, b = unpack(...) return a end return f('x')
return unpack({}, '1', 'x')
local ok, e = pcall(redis.log, 0/0, 'x') return {type(e), tostring(e)}
redis.log(0/0, 'x')
math.randomseed(0/0) return tostring(math.random())
math.randomseed(1/0) return tostring(math.random())
return math.random(0/0)
return math.random(1, 1/0)
return math.random(2^60)
local ok, e = xpcall(function() error('x') end, function(e) return e .. '!' end) return e
""".strip().split("\n")
