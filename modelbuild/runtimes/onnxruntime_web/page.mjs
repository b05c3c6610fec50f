// Answers a job in a page: reads job.json beside it and posts one line of JSON and the bytes of the outputs.

const about = { isolated: globalThis.crossOriginIsolated, threads: 1, log: [] };

const MOST_LINES = 100000; // of the log; what is of interest is said when the model is loaded

// Before ONNX Runtime is loaded: it keeps the functions, and the class, that it finds.
for (const level of ["debug", "info", "log", "warn", "error"]) {
  console[level] = (...words) => {
    if (about.log.length < MOST_LINES) about.log.push(words.join(" "));
  };
}
globalThis.Worker = class extends Worker {
  constructor(...given) {
    super(...given);
    about.threads += 1;
  }
};

let posted = false;
async function post({ chunks = [], ...rest }) {
  if (posted) return;
  posted = true;
  const body = new Blob([JSON.stringify({ ...about, ...rest }) + "\n", ...chunks]);
  await fetch("answer", { method: "POST", body });
}

async function read(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

async function browser() {
  const agent = navigator.userAgentData;
  const more = await agent?.getHighEntropyValues(["fullVersionList", "platform", "architecture"]);
  return { userAgent: navigator.userAgent, brands: more?.fullVersionList ?? [] };
}

/** What is known of the adapter that ONNX Runtime will be given. */
async function adapter() {
  const found = await navigator.gpu?.requestAdapter();
  if (!found) throw Object.assign(new Error("no adapter"), { stage: "adapter" });
  const { vendor, architecture, device, description } = found.info;
  const fallback = found.info.isFallbackAdapter ?? found.isFallbackAdapter ?? null;
  return { vendor, architecture, device, description, fallback, half: found.features.has("shader-f16") };
}

const { answer, told } = await import("./answer.mjs");
const fail = (error) => post(told(error));
addEventListener("error", (event) => fail(event.error ?? event.message));
addEventListener("unhandledrejection", (event) => fail(event.reason));
try {
  const job = JSON.parse(new TextDecoder().decode(await read("job.json")));
  Object.assign(about, await browser());
  if (job.backend === "webgpu") about.adapter = await adapter();
  const ort = await import(`./dist/ort.${job.backend}.min.mjs`);
  about.version = ort.env.versions.web;
  await post(await answer(job, read, ort));
} catch (error) {
  await fail(error);
}
