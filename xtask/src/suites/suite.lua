-- Loops that LuaJIT compiles: numbers, strings, tables, foreign data, coroutines.
local bit, ffi = require "bit", require "ffi"
local function mandelbrot(n)
    local inside = 0
    for y = 0, n - 1 do
        for x = 0, n - 1 do
            local cr, ci, zr, zi, k = 2 * x / n - 1.5, 2 * y / n - 1, 0, 0, 0
            while k < 50 and zr * zr + zi * zi < 4 do
                zr, zi, k = zr * zr - zi * zi + cr, 2 * zr * zi + ci, k + 1
            end
            if k == 50 then inside = inside + 1 end
        end
    end
    return inside
end
print("mandelbrot", mandelbrot(200))
local h = 0
for i = 1, 3000000 do h = bit.bxor(bit.rol(h, 5), i) + 0x9e3779b9; h = bit.tobit(h) end
print("bits", bit.tohex(h))
local a = ffi.new("double[?]", 1000)
local sum = 0
for r = 1, 300 do for i = 0, 999 do a[i] = a[i] + math.sqrt(i * r) % 7; sum = sum + a[i] end end
print("doubles", string.format("%.17g", sum))
local words = {}
for i = 1, 40000 do words[#words + 1] = string.format("%d-%x", i * 7919 % 10007, i) end
table.sort(words)
print("strings", #table.concat(words), words[1], words[20000], words[40000])
ffi.cdef "typedef struct { int8_t a; uint16_t b; int32_t c; uint64_t d; float e; } record;"
local rs = ffi.new("record[64]")
for i = 0, 200000 do
    local r = rs[i % 64]
    r.a = r.a + i; r.b = r.b * 3 + i; r.c = bit.bxor(r.c, i * 31); r.d = r.d * 6364136223846793005ULL + 1; r.e = r.e / 2 + i
end
print("records", rs[5].a, rs[6].b, rs[7].c, rs[8].d, rs[9].e)
local fib = coroutine.wrap(function() local x, y = 0, 1; while true do coroutine.yield(x); x, y = y, (x + y) % 1000007 end end)
local last; for i = 1, 30000 do last = fib() end
print("coroutines", last)
local ok, where = pcall(function() local t = {}; for i = 1, 1000 do t[i] = i end; return t[1001].x end)
print("errors", ok, where)
local set = {}
for i = 1, 300000 do local k = i * i % 65537; set[k] = (set[k] or 0) + 1 end
local n = 0; for k, v in pairs(set) do n = n + k % 13 * v end
print("tables", n)
