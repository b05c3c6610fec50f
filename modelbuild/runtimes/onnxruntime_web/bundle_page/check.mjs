// Loads the model, runs the golden inputs and holds the outputs to the golden ones: an app may start from here.
const fail = (words) => { throw new Error(words); };
const get = (name, as) => fetch(name).then((it) => it.ok ? it[as]() : fail(`${name} is not there (${it.status})`));
const ARRAYS = { bool: "Uint8Array", int64: "BigInt64Array", uint64: "BigUint64Array" }; // others are named by dtype
async function array({ name, dtype, shape, file }) {
  const kind = ARRAYS[dtype] ?? `${dtype[0].toUpperCase()}${dtype.slice(1)}Array`;
  const values = new (globalThis[kind] ?? fail(`this browser has no ${kind}`))(await get(`golden/${file}`, "arrayBuffer"));
  return values.length && values.length === shape.reduce((a, b) => a * b) ? values : fail(`${file} is not all of ${name}`);
}
async function check() {
  const golden = await get("golden/golden.json", "json");
  const backend = new URLSearchParams(location.search).get("backend") ?? golden.backends[0];
  const ort = await import(`./ort/ort.${backend}.min.mjs`);
  const session = await ort.InferenceSession.create(await get("model.onnx", "arrayBuffer"), { executionProviders: [backend] });
  const [feeds, names] = [{}, golden.outputs.map((each) => each.name).sort()];
  for (const each of golden.inputs) feeds[each.name] = new ort.Tensor(each.dtype, await array(each), each.shape);
  const found = await session.run(feeds);
  if (`${Object.keys(found).sort()}` !== `${names}`) fail(`the outputs are ${Object.keys(found).sort()}, not ${names}`);
  for (const each of golden.outputs) {
    const [want, { data, type, dims }] = [await array(each), found[each.name]];
    const [is, due] = [`${type}[${dims}]`, `${each.dtype}[${each.shape}]`];
    if (is !== due) fail(`${each.name} is ${is}, not ${due}`);
    const off = want.findIndex((value, i) => !(Math.abs(Number(data[i] - value)) <= each.limit)); // NaN is off as well
    if (off >= 0) fail(`${each.name}[${off}] is ${data[off]}, not ${want[off]} within ${each.limit}`);
  }
  return `holds: ${names} of ${golden.samples} samples, on ${backend}`;
}
const said = await check().catch((error) => `RED: ${error?.message ?? error}`);
document.querySelector("#result").textContent = said;
document.title = said.split(":")[0];
