// Golden arrays and what they are compared with: the same code for a page and for Node.
const ARRAYS = { bool: "Uint8Array", int64: "BigInt64Array", uint64: "BigUint64Array" }; // others are named by dtype
const product = (shape) => shape.reduce((a, b) => a * b, 1);
export const fail = (words) => { throw new Error(words); };

/** The values of a golden row from its bytes; float16 as bits where there is no Float16Array. */
export function array({ name, dtype, shape, file }, buffer) {
  let kind = ARRAYS[dtype] ?? `${dtype[0].toUpperCase()}${dtype.slice(1)}Array`;
  if (kind === "Float16Array" && !globalThis.Float16Array) kind = "Uint16Array";
  const type = globalThis[kind] ?? fail(`there is no ${kind} here`);
  const whole = buffer.byteLength && buffer.byteLength === product(shape) * type.BYTES_PER_ELEMENT;
  return whole ? new type(buffer) : fail(`${file} is not all of ${name}`);
}

function half(bits) {
  const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
}

const numbers = (dtype, data) => (dtype === "float16" && data instanceof Uint16Array ? Array.from(data, half) : data);

/** Hold `found`, {name: {data, type, dims}}, to the golden `rows` and their arrays `wanted`, {name: array}.
 *  Returns the largest difference by name; throws with output, value and sample. */
export function compare(rows, wanted, found) {
  const names = rows.map((each) => each.name).sort();
  if (`${Object.keys(found).sort()}` !== `${names}`) fail(`the outputs are ${Object.keys(found).sort()}, not ${names}`);
  if (!rows.length) fail("there are no golden outputs");
  return Object.fromEntries(rows.map((row) => [row.name, differs(row, wanted, found[row.name])]));
}

function differs(row, wanted, { data, type, dims }) {
  const { name, dtype, shape, limit } = row;
  const [is, due] = [`${type}[${dims}]`, `${dtype}[${shape}]`];
  if (is !== due) fail(`${name} is ${is}, not ${due}`);
  const [want, got] = [numbers(dtype, wanted[name]), numbers(dtype, data)];
  if (got.length !== want.length) fail(`${name} has ${got.length} values, not ${want.length}`);
  const [each, inner] = [product(shape.slice(1)), product(shape.slice(2))];
  let [largest, at] = [0, -1];
  for (let i = 0; i < want.length; i++) {
    const sample = Math.floor(i / each);
    if (row.lengths && Math.floor((i % each) / inner) >= Number(wanted[row.lengths][sample])) continue; // filling
    const off = Math.abs(Number(got[i] - want[i]));
    if (off <= largest) continue; // NaN is not
    [largest, at] = [off, i];
    if (!(off <= limit) && Number.isNaN(off)) break;
  }
  if (Number.isFinite(limit) && largest <= limit) return largest;
  const i = Math.max(at, 0); // a limit that is none fails at the first value
  return fail(`${name}[${i}] is ${got[i]}, not ${want[i]} within ${limit} (sample ${Math.floor(i / each)}, off by ${largest})`);
}
