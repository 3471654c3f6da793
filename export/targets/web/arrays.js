// Files of named arrays with a JSON header, as lm/arrayfile.py writes them.

const MAGIC = [83, 86, 65, 82, 82, 65, 89, 1]; // "SVARRAY" and a 1
const ITEM_BYTES = { u1: 1, i1: 1, u2: 2, i2: 2, f2: 2, u4: 4, i4: 4, f4: 4, u8: 8, i8: 8, f8: 8 };

/**
 * What an array file holds.
 * @param {ArrayBuffer} buffer the whole file.
 * @param {string} kind what it must be: "lexicon", "ngram", "lm" or "lm-adapter".
 * @returns {{meta: object, arrays: Object<string, {offset: number, shape: number[], size: number}>}} offsets in bytes
 *     from the file's start, sizes in items.
 * @throws {Error} not an array file, of another kind, or cut off.
 */
export function readHeader(buffer, kind) {
  const bytes = new Uint8Array(buffer);
  if (bytes.length < 12 || MAGIC.some((value, index) => bytes[index] !== value)) {
    throw new Error(`${kind}: not an array file (wrong first bytes)`);
  }
  const length = new DataView(buffer).getUint32(8, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(12, 12 + length)));
  if (header.kind !== kind || header.version !== 1) {
    throw new Error(`expected ${kind} version 1, found ${header.kind} version ${header.version}`);
  }
  const arrays = {};
  for (const [name, { dtype, shape, offset }] of Object.entries(header.arrays)) {
    const size = shape.reduce((product, length) => product * length, 1);
    if (offset + size * ITEM_BYTES[dtype.slice(1)] > bytes.length) throw new Error(`${kind}: cut off in ${name}`);
    arrays[name] = { offset, shape, size };
  }
  return { meta: header.meta, arrays };
}
