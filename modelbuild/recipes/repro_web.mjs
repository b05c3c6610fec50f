// Shows one fault by itself in ONNX Runtime Web: runs a few operations of an ONNX model and holds what they give to
// what they should.
//
//   npm install onnxruntime-web@VERSION     (the version that README.txt names)
//   node reproduce.mjs                      the operations as they shipped
//   node reproduce.mjs reference            the same operations of the model that they were made from
//
// Exit code 1: the fault is there. 0: it is not. 2: it cannot be tried here, and why.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const KINDS = {
  "<f4": ["float32", Float32Array], "<f8": ["float64", Float64Array],
  "<i4": ["int32", Int32Array], "<i8": ["int64", BigInt64Array],
  "|i1": ["int8", Int8Array], "|u1": ["uint8", Uint8Array], "|b1": ["bool", Uint8Array],
};

/** The arrays of an .npz file as NumPy's savez writes it, not compressed: name -> {kind, data, shape}. */
function arrays(file) {
  const bytes = fs.readFileSync(path.join(HERE, file));
  const found = {};
  let at = bytes.readUInt32LE(bytes.length - 6);
  for (let left = bytes.readUInt16LE(bytes.length - 12); left > 0; left -= 1) {
    const [name, extra, comment] = [28, 30, 32].map((offset) => bytes.readUInt16LE(at + offset));
    if (bytes.readUInt16LE(at + 10) !== 0) throw new Error(`${file} is compressed`);
    const start = bytes.readUInt32LE(at + 42);
    const body = start + 30 + bytes.readUInt16LE(start + 26) + bytes.readUInt16LE(start + 28);
    const entry = bytes.subarray(body, body + bytes.readUInt32LE(at + 24));
    found[bytes.toString("utf8", at + 46, at + 46 + name).replace(/\.npy$/, "")] = array(entry);
    at += 46 + name + extra + comment;
  }
  return found;
}

function array(bytes) {
  const long = bytes[6] > 1;
  const start = long ? 12 : 10;
  const body = start + (long ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8));
  const head = bytes.toString("latin1", start, body);
  const [kind, Kind] = KINDS[/'descr': '(.*?)'/.exec(head)[1]] ?? [];
  if (!kind || /'fortran_order': True/.test(head)) throw new Error(`an array is kept as ${head.trim()}`);
  const shape = /'shape': \((.*?)\)/.exec(head)[1].split(",").filter((size) => size.trim()).map(Number);
  const copy = new Uint8Array(bytes.subarray(body)); // aligned
  return { kind, shape, data: new Kind(copy.buffer) };
}

/** The largest difference and the root mean square; infinite where there is no number, or another shape. */
function apart(due, found) {
  if (String(due.shape) !== String(found.dims)) return { max_abs: Infinity, rmse: Infinity };
  let [largest, squares, count] = [0, 0, 0];
  for (let index = 0; index < due.data.length; index += 1) {
    const one = Number(due.data[index]);
    if (!Number.isFinite(one)) continue;
    const error = Math.abs(one - Number(found.data[index]));
    largest = Math.max(largest, Number.isNaN(error) ? Infinity : error);
    squares += Number.isNaN(error) ? Infinity : error * error;
    count += 1;
  }
  return { max_abs: largest, rmse: count ? Math.sqrt(squares / count) : 0 };
}

async function tried(which, dist) {
  const about = JSON.parse(fs.readFileSync(path.join(HERE, "finding.json"), "utf8")).reproduce;
  if (!about[which]) throw new Error(`this folder has no ${which} model`);
  const ort = await import(dist ? pathToFileURL(path.join(dist, "ort.node.min.mjs")).href : "onnxruntime-web");
  const shipped = which === "shipped";
  ort.env.wasm.numThreads = shipped ? about.threads : 1;
  const level = shipped ? about.optimisation : "disabled";
  const model = new Uint8Array(fs.readFileSync(path.join(HERE, about[which])));
  const session = await ort.InferenceSession.create(model, { graphOptimizationLevel: level, logSeverityLevel: 4 });
  const [inputs, expected] = ["inputs.npz", "expected.npz"].map(arrays);
  const name = shipped ? "name" : "reference";
  const feed = about.inputs.map((port, number) => {
    const { kind, data, shape } = inputs[`value_${number}`];
    return [port[name], new ort.Tensor(kind, data, shape)];
  });
  const found = await session.run(Object.fromEntries(feed), about.values.map((value) => value[name]));
  console.log(`${about.operation} in ${about[which]}, onnxruntime-web ${ort.env.versions.web}`);
  let wrong = false;
  about.values.forEach((value, number) => {
    const measured = apart(expected[`value_${number}`], found[value[name]]);
    for (const [metric, limit] of Object.entries(value.limits)) {
      console.log(`  ${value.name}: ${metric} ${measured[metric]}, limit ${limit}`);
      wrong ||= !(measured[metric] <= limit);
    }
  });
  console.log(wrong ? "reproduced" : "not reproduced");
  return wrong ? 1 : 0;
}

const given = process.argv.slice(2);
const dist = given.find((each) => path.isAbsolute(each)); // the folder of that name, where it is not in node_modules
const [which = "shipped"] = given.filter((each) => each !== dist);
let code = 2;
try {
  if (!["shipped", "reference"].includes(which)) throw new Error("usage: node reproduce.mjs [shipped|reference]");
  code = await tried(which, dist);
} catch (error) {
  console.log(`cannot be tried here: ${error.message}`);
}
process.exit(code); // its threads would keep it alive
