// One model answered batch by batch with ONNX Runtime Web: the same in Node and in a page.

// A half that the engine has no array for is its 16 bits; every array is a view of bytes, so none is ever changed.
const ARRAYS = {
  float16: globalThis.Float16Array ?? Uint16Array, float32: Float32Array, float64: Float64Array,
  int8: Int8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array,
  uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, uint64: BigUint64Array, bool: Uint8Array,
};

/**
 * `job`: backend, threads, optimisation, outputs (names), batches (samples of each call) and inputs, each with name,
 * dtype, row (the shape of one sample) and file, in which the samples of all calls lie one behind the other.
 * `read` gives the bytes of a file. Returns what each call gave, and its bytes in the same order.
 * An error has a `stage`: "load" or "run".
 */
export async function answer(job, read, ort) {
  ort.env.wasm.numThreads = job.threads;
  const session = await during("load", async () => {
    const options = {
      executionProviders: [job.backend],
      graphOptimizationLevel: job.optimisation,
      logSeverityLevel: 0, // says where nodes are placed
    };
    return ort.InferenceSession.create(await read("model.onnx"), options);
  });
  const inputs = await Promise.all(job.inputs.map(async (input) => ({ ...input, bytes: await read(input.file) })));
  const calls = [];
  const chunks = [];
  let start = 0;
  for (const samples of job.batches) {
    const feed = Object.fromEntries(inputs.map((input) => [input.name, tensor(input, start, samples, ort)]));
    const found = await during("run", () => session.run(feed, job.outputs));
    calls.push(job.outputs.map((name) => ({ name, dtype: found[name].type, shape: found[name].dims })));
    for (const name of job.outputs) {
      const { buffer, byteOffset, byteLength } = found[name].data;
      chunks.push(new Uint8Array(buffer, byteOffset, byteLength));
    }
    start += samples;
  }
  return { calls, chunks };
}

function tensor(input, start, samples, ort) {
  const array = ARRAYS[input.dtype];
  const row = input.row.reduce((product, size) => product * size, 1);
  const bytes = input.bytes.slice(start * row * array.BYTES_PER_ELEMENT, (start + samples) * row * array.BYTES_PER_ELEMENT);
  return new ort.Tensor(input.dtype, new array(bytes.buffer), [samples, ...input.row]);
}

async function during(stage, work) {
  try {
    return await work();
  } catch (error) {
    throw Object.assign(error instanceof Error ? error : new Error(String(error)), { stage });
  }
}

/** What a host tells of an error: its message, and the stage it happened at. */
export function told(error) {
  return { error: String(error?.message ?? error), stage: error?.stage ?? "start" };
}
