// Holds a model to its golden samples: `node check.mjs [OUTPUTS] [--model FILE]`, Node 18 or later, no packages needed.
//
// OUTPUTS is a folder with what an app made of the golden inputs (golden.json names them): one file an output, raw
// little-endian values in C order (NAME.bin, or the file name in golden.json) or NAME.npy. Without it the model beside
// this folder is run by onnxruntime-node or onnxruntime-web, whichever can be imported.
// Exit code: 0 holds, 1 RED, 2 cannot be checked.

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { array, compare, fail } from "./compare.mjs";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const KINDS = { "<f4": "float32", "<f8": "float64", "<f2": "float16", "|b1": "bool", "|i1": "int8", "|u1": "uint8" };
for (const size of [2, 4, 8]) for (const sign of ["int", "uint"]) KINDS[`<${sign[0]}${size}`] = `${sign}${8 * size}`;

class Cannot extends Error {}
const cannot = (words) => { throw new Cannot(words); };
const bytes = (file) => new Uint8Array(fs.readFileSync(file)).buffer; // its own, and so aligned

function golden() {
  try {
    const told = JSON.parse(fs.readFileSync(path.join(HERE, "golden.json"), "utf8"));
    const read = (row) => [row.name, array(row, bytes(path.join(HERE, row.file)))];
    const arrays = (rows) => Object.fromEntries(rows.map(read));
    return { ...told, feeds: arrays(told.inputs), wanted: arrays(told.outputs), rows: told.outputs };
  } catch (error) {
    return cannot(`the golden samples are damaged: ${error.message}`);
  }
}

function npy(row, file) {
  const buffer = bytes(file);
  const view = new DataView(buffer);
  const [at, length] = view.getUint8(6) === 1 ? [10, view.getUint16(8, true)] : [12, view.getUint32(8, true)];
  const head = new TextDecoder().decode(new Uint8Array(buffer, at, length));
  const [, descr] = /'descr': *'([^']*)'/.exec(head) ?? fail(`${file} is no array`);
  if (/'fortran_order': *True/.test(head)) fail(`${row.name} is in Fortran order, not in C order`);
  const shape = /'shape': *\(([^)]*)\)/.exec(head)[1].split(",").filter((each) => each.trim()).map(Number);
  const dtype = KINDS[descr] ?? descr;
  if (dtype !== row.dtype) fail(`${row.name} is ${dtype}[${shape}], not ${row.dtype}[${row.shape}]`);
  return { data: array({ ...row, shape, file }, buffer.slice(at + length)), type: dtype, dims: shape };
}

function written(folder, { rows }) {
  if (!fs.existsSync(folder) || !fs.statSync(folder).isDirectory()) cannot(`${folder} is no folder`);
  const files = fs.readdirSync(folder).filter((name) => [".bin", ".npy", ".npz"].includes(path.extname(name)));
  if (fs.existsSync(path.join(folder, "golden.json"))) cannot(`${folder} holds the golden samples themselves`);
  const found = {};
  for (const file of files) {
    const raw = rows.find((row) => [`${row.name}.bin`, row.file].includes(file));
    const row = raw ?? rows.find((each) => file === `${each.name}.npy`) ?? fail(`nobody expects the output ${file}`);
    if (found[row.name]) fail(`${row.name} was written twice`);
    const place = path.join(folder, file);
    found[row.name] = raw ? { data: array({ ...row, file }, bytes(place)), type: row.dtype, dims: row.shape } : npy(row, place);
  }
  return found;
}

async function runtime() {
  const from = createRequire(path.join(process.cwd(), "x.js")); // the app's own packages, then those near this file
  const near = path.join(HERE, "..", "ort", "ort.wasm.min.mjs");
  const ways = [async () => import(pathToFileURL(near).href)];
  for (const name of ["onnxruntime-web", "onnxruntime-node"]) {
    ways.unshift(async () => import(pathToFileURL(from.resolve(name)).href), async () => import(name));
  }
  for (const way of ways) {
    const found = await way().catch(() => null);
    const ort = found?.InferenceSession ? found : found?.default;
    if (ort?.InferenceSession) return ort;
  }
  return cannot("neither onnxruntime-node nor onnxruntime-web can be imported: install one, or name a folder of outputs");
}

async function run(model, { feeds, inputs, artefact }) {
  const file = model ?? (artefact ? path.join(HERE, "..", artefact) : cannot("golden.json names no artefact: say --model"));
  if (!/\.(onnx|ort)$/.test(file)) cannot(`${path.basename(file)} does not run here: name a folder of outputs`);
  if (!fs.existsSync(file)) cannot(`${file} is not there`);
  const ort = await runtime();
  try {
    const session = await ort.InferenceSession.create(new Uint8Array(bytes(file)));
    const tensors = inputs.map(({ name, dtype, shape }) => [name, new ort.Tensor(dtype, feeds[name], shape)]);
    return await session.run(Object.fromEntries(tensors));
  } catch (error) {
    return cannot(`the model does not run: ${error.message}; install onnxruntime-node, or name a folder of outputs`);
  }
}

async function check(args) {
  const named = args.indexOf("--model");
  const model = named < 0 ? undefined : args.splice(named, 2)[1] ?? cannot("--model names no file");
  if (args.length > 1 || args[0]?.startsWith("-")) cannot("usage: node check.mjs [OUTPUTS] [--model FILE]");
  const told = golden();
  const largest = compare(told.rows, told.wanted, args.length ? written(args[0], told) : await run(model, told));
  const said = told.rows.map(({ name, limit }) => `${name} off by ${largest[name]}, limit ${limit}`);
  return `holds: ${told.samples} samples, ${said.join("; ")}`;
}

const [code, words] = await check(process.argv.slice(2)).then(
  (said) => [0, said],
  (error) => (error instanceof Cannot ? [2, `cannot be checked: ${error.message}`] : [1, `RED: ${error.message}`]),
);
fs.writeSync(code ? 2 : 1, `${words}\n`);
process.exit(code); // a runtime's threads would keep it alive
