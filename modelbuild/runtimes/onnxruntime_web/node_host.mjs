// Answers a job in Node: `node node_host.mjs JOB_FOLDER DIST_FOLDER` reads job.json and writes the file "answer",
// one line of JSON and the bytes of the outputs. What ONNX Runtime says goes to stdout and stderr.

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { answer, told } from "./answer.mjs";

const [folder, dist] = process.argv.slice(2);
const about = { node: process.versions.node, v8: process.versions.v8, threads: 1 };

// ONNX Runtime takes the class from here for its threads.
const workers = createRequire(import.meta.url)("node:worker_threads");
workers.Worker = class extends workers.Worker {
  constructor(...given) {
    super(...given);
    about.threads += 1;
  }
};

function write(result) {
  const { chunks = [], ...rest } = result;
  const file = fs.openSync(path.join(folder, "answer"), "w");
  fs.writeSync(file, JSON.stringify({ ...about, ...rest }) + "\n");
  for (const chunk of chunks) {
    for (let done = 0; done < chunk.length; ) done += fs.writeSync(file, chunk, done);
  }
  fs.closeSync(file);
}

try {
  const ort = await import(pathToFileURL(path.join(dist, "ort.node.min.mjs")).href);
  about.version = ort.env.versions.web;
  const job = JSON.parse(fs.readFileSync(path.join(folder, "job.json"), "utf8"));
  const read = async (name) => new Uint8Array(fs.readFileSync(path.join(folder, name)));
  write(await answer(job, read, ort));
} catch (error) {
  write(told(error));
}
process.exit(0); // its threads would keep it alive
