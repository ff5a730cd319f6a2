// Code that V8 compiles, optimises and throws away again: numbers, objects that change their shape, regular expressions,
// typed arrays, WebAssembly.
const plain = process.argv[2] === 'plain';
function show(name, value) { console.log(name, value); }
let h = 0;
for (let i = 0; i < 3e6; i++) { h = (h << 5 | h >>> 27) ^ Math.imul(i, 0x9e3779b9); }
show('integers', h >>> 0);
let sum = 0;
for (let i = 1; i < 1e6; i++) sum += Math.sin(i) * Math.sqrt(i) / Math.log(i + 1);
show('floats', sum.toFixed(6));
function area(s) { return s.w === undefined ? s.r * s.r * 3 : s.w * s.h; }
let total = 0;
for (let i = 0; i < 400000; i++) {
    total += area(i % 3 ? { w: i % 7, h: 2 } : i % 2 ? { r: i % 5 } : { h: 1.5, w: i % 11 });
    if (i === 200000) total += area({ r: '4' }) + area({ w: 2n > 1n ? 3 : 0, h: 1 });
}
show('shapes', total);
let text = '';
for (let i = 0; i < 20000; i++) text += String.fromCharCode(97 + i * 7919 % 26);
show('expressions', [...text.matchAll(/([aeiou])[^aeiou]{1,3}(?=\1)/g)].length + ' ' + text.replace(/(.)(.)/g, '$2$1').slice(0, 40));
const floats = new Float64Array(4096), bytes = new Uint8Array(floats.buffer);
for (let r = 0; r < 100; r++) for (let i = 0; i < 4096; i++) floats[i] = floats[i] * 0.5 + i * r;
let crc = 0; for (const b of bytes) crc = Math.imul(crc ^ b, 0x01000193) >>> 0;
show('arrays', crc);
let big = 1n; for (let i = 1n; i < 1500n; i++) big *= i;
show('big integers', big.toString(36).slice(-320, -300) + ' ' + big % 1000003n);
const object = JSON.parse(JSON.stringify(Array.from({ length: 5000 }, (_, i) => ({ id: i, name: 'n' + i, list: [i, i / 3] }))));
show('JSON', object.reduce((a, o) => a + o.list[1] + o.name.length, 0).toFixed(3));
show('hash', require('crypto').createHash('sha256').update(text.repeat(50)).digest('hex'));
show('sort', Array.from({ length: 100000 }, (_, i) => i * 7919 % 100003).sort((a, b) => a - b).filter((v, i) => i % 9999 === 0).join());
function* walk(n) { if (n > 0) { yield* walk(n - 1); yield n; yield* walk(n - 2); } }
let steps = 0; for (const v of walk(18)) steps += v;
show('generators', steps);
let caught = 0;
for (let i = 0; i < 30000; i++) { try { if (i % 3 === 0) null.x; if (i % 5 === 0) throw i; } catch (e) { caught += e instanceof TypeError ? 1 : e; } }
show('exceptions', caught);
if (!plain) {
    // (func (param i32) (result i32)): a loop that adds i*i.
    const wasm = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 6, 1, 96, 1, 127, 1, 127, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 36, 1,
        34, 1, 1, 127, 3, 64, 32, 1, 32, 0, 32, 0, 108, 106, 33, 1, 32, 0, 65, 1, 107, 34, 0, 13, 0, 11, 32, 1, 65, 1, 106, 65, 1, 107, 11]);
    try {
        const { exports } = new WebAssembly.Instance(new WebAssembly.Module(wasm));
        show('WebAssembly', exports.f(1000000));
    } catch (e) { show('WebAssembly', e.message); }
}
