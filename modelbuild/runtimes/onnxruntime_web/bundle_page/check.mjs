// Loads the model, runs the golden inputs and holds the outputs to the golden ones. An app may start from here.
const ARRAYS = {
  float32: Float32Array, float64: Float64Array, int8: Int8Array, int16: Int16Array, int32: Int32Array, bool: Uint8Array,
  int64: BigInt64Array, uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, uint64: BigUint64Array,
};
async function read(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} is not there (${response.status})`);
  return response.arrayBuffer();
}
async function array({ name, dtype, shape, file }) {
  const values = new ARRAYS[dtype](await read(`golden/${file}`));
  if (values.length === 0 || values.length !== shape.reduce((a, b) => a * b, 1)) throw new Error(`${file} is not all of ${name}`);
  return values;
}
async function check() {
  const golden = JSON.parse(new TextDecoder().decode(await read("golden/golden.json")));
  const backend = new URLSearchParams(location.search).get("backend") ?? golden.backends[0];
  const ort = await import(`./ort/ort.${backend}.min.mjs`);
  const session = await ort.InferenceSession.create(new Uint8Array(await read("model.onnx")), { executionProviders: [backend] });
  const feeds = {};
  for (const input of golden.inputs) feeds[input.name] = new ort.Tensor(input.dtype, await array(input), input.shape);
  const found = await session.run(feeds);
  if (`${Object.keys(found).sort()}` !== `${golden.outputs.map((each) => each.name).sort()}`) throw new Error(`the outputs are ${Object.keys(found)}`);
  for (const { limit, ...output } of golden.outputs) {
    const [want, got] = [await array(output), found[output.name]];
    if (got.type !== output.dtype || `${got.dims}` !== `${output.shape}`) throw new Error(`${output.name} is ${got.type}[${got.dims}]`);
    const off = want.findIndex((value, i) => !(Math.abs(Number(got.data[i]) - Number(value)) <= limit)); // NaN is off
    if (off >= 0) throw new Error(`${output.name}[${off}] is ${got.data[off]}, not ${want[off]} within ${limit}`);
  }
  return `holds: ${golden.outputs.map((each) => each.name)} of ${golden.samples} samples, on ${backend}`;
}
const said = await check().catch((error) => `RED: ${error.message}`);
document.querySelector("#result").textContent = said;
document.title = said.split(":")[0];
