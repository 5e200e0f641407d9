// As much of msgpack as a client of Rewind needs, written from its specification:
// https://github.com/msgpack/msgpack/blob/master/spec.md
//
// encode: null, booleans, whole numbers from 0 to 2^53, texts, Buffers, arrays and plain objects.
// decode: those, and any other integer and float. A number above 2^53 loses its low digits.

function header(small, sizes, length) {
  if (small !== null && length < small[1]) return Buffer.from([small[0] | length]);
  const [code, bytes] = sizes.find(([, bytes]) => length < 256 ** bytes);
  const buffer = Buffer.alloc(1 + bytes);
  buffer[0] = code;
  if (bytes === 8) buffer.writeBigUInt64BE(BigInt(length), 1);
  else buffer.writeUIntBE(length, 1, bytes);
  return buffer;
}

function encode(value) {
  if (value === null) return Buffer.from([0xc0]);
  if (typeof value === "boolean") return Buffer.from([value ? 0xc3 : 0xc2]);
  if (typeof value === "number")
    return header([0x00, 128], [[0xcc, 1], [0xcd, 2], [0xce, 4], [0xcf, 8]], value);
  if (typeof value === "string") {
    const bytes = Buffer.from(value);
    return Buffer.concat([header([0xa0, 32], [[0xd9, 1], [0xda, 2], [0xdb, 4]], bytes.length), bytes]);
  }
  if (Buffer.isBuffer(value))
    return Buffer.concat([header(null, [[0xc4, 1], [0xc5, 2], [0xc6, 4]], value.length), value]);
  if (Array.isArray(value))
    return Buffer.concat([header([0x90, 16], [[0xdc, 2], [0xdd, 4]], value.length), ...value.map(encode)]);
  const pairs = Object.entries(value);
  return Buffer.concat([header([0x80, 16], [[0xde, 2], [0xdf, 4]], pairs.length), ...pairs.flat().map(encode)]);
}

function decode(buffer) {
  let at = 0;
  const take = (count) => buffer.subarray(at, (at += count));
  const unsigned = (bytes) => {
    const part = take(bytes);
    return bytes === 8 ? Number(part.readBigUInt64BE()) : part.readUIntBE(0, bytes);
  };
  const signed = (bytes) => {
    const part = take(bytes);
    return bytes === 8 ? Number(part.readBigInt64BE()) : part.readIntBE(0, bytes);
  };
  const array = (count) => Array.from({ length: count }, next);
  const map = (count) => Object.fromEntries(Array.from({ length: count }, () => [next(), next()]));
  function next() {
    const code = unsigned(1);
    if (code < 0x80) return code;
    if (code < 0x90) return map(code & 0x0f);
    if (code < 0xa0) return array(code & 0x0f);
    if (code < 0xc0) return take(code & 0x1f).toString();
    if (code >= 0xe0) return code - 0x100;
    if (code === 0xc0) return null;
    if (code === 0xc2 || code === 0xc3) return code === 0xc3;
    if (code >= 0xc4 && code <= 0xc6) return take(unsigned(2 ** (code - 0xc4)));
    if (code === 0xca) return take(4).readFloatBE();
    if (code === 0xcb) return take(8).readDoubleBE();
    if (code >= 0xcc && code <= 0xcf) return unsigned(2 ** (code - 0xcc));
    if (code >= 0xd0 && code <= 0xd3) return signed(2 ** (code - 0xd0));
    if (code >= 0xd9 && code <= 0xdb) return take(unsigned(2 ** (code - 0xd9))).toString();
    if (code === 0xdc || code === 0xdd) return array(unsigned(2 ** (code - 0xdb)));
    if (code === 0xde || code === 0xdf) return map(unsigned(2 ** (code - 0xdd)));
    throw new Error(`no msgpack of Rewind's: ${code.toString(16)}`);
  }
  return next();
}

module.exports = { encode, decode };
