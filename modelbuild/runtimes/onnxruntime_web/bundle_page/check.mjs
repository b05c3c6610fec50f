// Loads the model, runs the golden inputs and holds the outputs to the golden ones: an app may start from here.
import { array, compare, fail } from "./golden/compare.mjs";
const get = (name, as) => fetch(name).then((it) => it.ok ? it[as]() : fail(`${name} is not there (${it.status})`));
async function arrays(rows) {
  const found = {};
  for (const row of rows) found[row.name] = array(row, await get(`golden/${row.file}`, "arrayBuffer"));
  return found;
}
async function check() {
  const golden = await get("golden/golden.json", "json");
  const backend = new URLSearchParams(location.search).get("backend") ?? golden.backends[0];
  const ort = await import(`./ort/ort.${backend}.min.mjs`);
  const session = await ort.InferenceSession.create(await get("model.onnx", "arrayBuffer"), { executionProviders: [backend] });
  const [feeds, inputs] = [{}, await arrays(golden.inputs)];
  for (const { name, dtype, shape } of golden.inputs) feeds[name] = new ort.Tensor(dtype, inputs[name], shape);
  const names = Object.keys(compare(golden.outputs, await arrays(golden.outputs), await session.run(feeds))).sort();
  return `holds: ${names} of ${golden.samples} samples, on ${backend}`;
}
const said = await check().catch((error) => `RED: ${error?.message ?? error}`);
document.querySelector("#result").textContent = said;
document.title = said.split(":")[0];
