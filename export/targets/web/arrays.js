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
  if (header.kind !== kind || ![1, 2].includes(header.version)) {
    throw new Error(`expected ${kind} version 1 or 2, found ${header.kind} version ${header.version}`);
  }
  const arrays = {};
  for (const [name, { dtype, shape, offset, counts }] of Object.entries(header.arrays)) {
    const size = shape.reduce((product, length) => product * length, 1);
    const stored = counts ? size - 1 : size * ITEM_BYTES[dtype.slice(1)];
    if (offset + stored > bytes.length) throw new Error(`${kind}: cut off in ${name}`);
    arrays[name] = { offset, shape, size };
    if (counts) arrays[name].values = addUp(bytes.subarray(offset, offset + stored), counts);
  }
  return { meta: header.meta, arrays };
}

/** Where rows begin, from how many there are in each; `large` are the rows that have more than a byte holds. */
function addUp(rows, { first, large }) {
  const counts = Uint32Array.from(rows);
  for (const [row, count] of large) counts[row] = count;
  const starts = new Uint32Array(rows.length + 1);
  starts[0] = first;
  counts.forEach((count, row) => { starts[row + 1] = starts[row] + count; });
  return starts;
}
