"""Shows one fault by itself: runs a few operations of a Core ML package and holds what they give to what they should.

    pip install numpy torch coremltools         (and onnxruntime for the second)
    python reproduce.py                         the operations as they shipped
    python reproduce.py reference               the same operations of the model that they were made from

On macOS Core ML runs the package. Elsewhere its operations are evaluated one by one: by coremltools, and by NumPy and
PyTorch where it computes nothing. Exit code 1: the fault is there. 0: it is not. 2: it cannot be tried here, and why.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
Get = Callable[[str], Any]


class CannotTryError(Exception):
    """Why, in words."""


def main(arguments: list[str]) -> int:
    """0, 1 or 2, as above."""
    try:
        if len(arguments) > 1 or arguments not in ([], ["shipped"], ["reference"]):
            raise CannotTryError("usage: python reproduce.py [shipped|reference]")
        about = json.loads((HERE / "finding.json").read_text(encoding="utf-8"))["reproduce"]
        return tried(about, arguments[0] if arguments else "shipped")
    except ImportError as error:
        print(f"cannot be tried here: {error}; pip install numpy torch coremltools onnxruntime")
    except CannotTryError as error:
        print(f"cannot be tried here: {error}")
    return 2


def tried(about: dict[str, Any], which: str) -> int:
    """1 where a value is off, 0 where none is."""
    import numpy

    if not about[which]:
        raise CannotTryError(f"this folder has no {which} model")
    inputs, expected = (arrays(numpy, about, side) for side in ("inputs", "values"))
    found, what = (shipped if which == "shipped" else reference)(about, inputs)
    print(f"{about['operation']} in {about[which]}, {what}")
    wrong = False
    for value, due, array in zip(about["values"], expected, found, strict=True):
        measured = apart(numpy, due, numpy.asarray(array))
        for metric, limit in value["limits"].items():
            print(f"  {value['name']}: {metric} {measured[metric]:.6g}, limit {limit:.6g}")
            wrong |= not measured[metric] <= limit
    print("reproduced" if wrong else "not reproduced")
    return int(wrong)


def arrays(numpy: Any, about: dict[str, Any], side: str) -> list[Any]:
    """What lies in inputs.npz or expected.npz, in the order of `about`."""
    file = {"inputs": "inputs.npz", "values": "expected.npz"}[side]
    with numpy.load(HERE / file, allow_pickle=False) as kept:
        return [kept[f"value_{number}"] for number in range(len(about[side]))]


def apart(numpy: Any, due: Any, found: Any) -> dict[str, float]:
    """The largest difference and the root mean square; infinite where there is no number, or another shape."""
    if due.shape != found.shape:
        return {"max_abs": float("inf"), "rmse": float("inf")}
    one, two = due.astype("float64"), found.astype("float64")
    known = numpy.isfinite(one)
    errors = numpy.abs(one[known] - two[known]) if known.any() else numpy.zeros(1)
    measured = {"max_abs": float(errors.max()), "rmse": float(numpy.sqrt((errors**2).mean()))}
    return {metric: each if numpy.isfinite(each) else float("inf") for metric, each in measured.items()}


# -- the model that the artefact was made from


def reference(about: dict[str, Any], inputs: list[Any]) -> tuple[list[Any], str]:
    """In ONNX Runtime, as plainly as can be."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            str(HERE / about["reference"]), settings, providers=["CPUExecutionProvider"]
        )
        feed = {port["reference"]: array for port, array in zip(about["inputs"], inputs, strict=True)}
        found = session.run([value["reference"] for value in about["values"]], feed)
    except Exception as error:  # whatever it is, it is no answer
        raise CannotTryError(f"ONNX Runtime does not run {about['reference']}: {error}") from error
    return list(found), f"onnxruntime {onnxruntime.__version__}"


# -- the artefact


def shipped(about: dict[str, Any], inputs: list[Any]) -> tuple[list[Any], str]:
    """In Core ML on macOS; elsewhere one operation after the other."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    import coremltools

    names = [port["name"] for port in about["inputs"]]
    feed = dict(zip(names, inputs, strict=True))
    package = str(HERE / about["shipped"])
    mac = sys.platform == "darwin"
    try:
        model = coremltools.models.MLModel(package, skip_model_load=not mac)
        ports = {port.name: port.type.multiArrayType for port in model.get_spec().description.input}
        feed = {name: array.astype(border(ports[name])) for name, array in feed.items()}
        found = model.predict(feed) if mac else evaluated(model, feed)
    except CannotTryError:
        raise
    except Exception as error:  # whatever it is, it is no answer
        raise CannotTryError(f"{type(error).__name__}: {error}") from error
    what = "Core ML" if mac else f"evaluated with coremltools {coremltools.__version__}"
    return [found[value["name"]] for value in about["values"]], what


def border(port: Any) -> str:
    """The type of array that a port of a package takes."""
    from coremltools.proto import FeatureTypes_pb2

    kinds = FeatureTypes_pb2.ArrayFeatureType.ArrayDataType
    return "int32" if port.dataType == kinds.Value("INT32") else "float32"


def evaluated(model: Any, feed: dict[str, Any]) -> dict[str, Any]:
    """The outputs of the package's main function."""
    from coremltools.converters.mil.frontend.milproto.load import load

    spec = model.get_spec()
    function = load(spec, spec.specificationVersion, model.weights_dir).functions["main"]
    known = {function.inputs[name]: array for name, array in feed.items()}
    for operation in function.operations:
        if operation.op_type == "const":
            known[operation.outputs[0]] = operation.outputs[0].val
            continue
        for output, value in zip(operation.outputs, computed(operation, known), strict=True):
            known[output] = typed(output, value)
    return {output.name: known[output] for output in function.outputs}


def computed(operation: Any, known: dict[Any, Any]) -> list[Any]:
    """What one operation gives."""

    def look(argument: Any) -> Any:
        return known.get(argument, argument.val)

    def get(name: str) -> Any:
        argument = operation.inputs.get(name)
        if isinstance(argument, (list, tuple)):
            return [look(each) for each in argument]
        return None if argument is None else look(argument)

    if operation.op_type in KERNELS:
        return [KERNELS[operation.op_type](get)]
    if operation.op_type.startswith("constexpr_"):
        return [operation.materialized_val_inference()]
    found = inferred(operation, known)
    if found is None:
        raise CannotTryError(f'coremltools cannot evaluate "{operation.op_type}" outside of macOS')
    many = isinstance(found, (tuple, list)) and len(operation.outputs) > 1
    return list(found) if many else [found]


def inferred(operation: Any, known: dict[Any, Any]) -> Any:
    """What coremltools itself computes where the arguments are known: let it believe that they are constants."""
    given = operation.inputs.values()
    arguments = [each for value in given for each in (value if isinstance(value, (list, tuple)) else [value])]
    open_ = [each for each in dict.fromkeys(arguments) if each in known and each.val is None]
    before = [each._sym_val for each in open_]
    try:
        for each in open_:
            each._sym_val = type("Known", (), {"val": known[each]})()
        return operation.value_inference()
    except RuntimeError:  # it has nothing that computes this
        return None
    finally:
        for each, value in zip(open_, before, strict=True):
            each._sym_val = value


def typed(output: Any, value: Any) -> Any:
    """`value` with the type that the package states of it."""
    import numpy
    from coremltools.converters.mil.mil import types

    array = numpy.asarray(getattr(value, "val", value))
    wanted = types.nptype_from_builtin(output.dtype)
    return array if wanted in (None, str) else array.astype(wanted)


# -- operations that coremltools leaves to Core ML; of float16 the sums are kept in float32


def tensor(value: Any) -> Any:
    """As a float32 tensor of PyTorch's."""
    import numpy
    import torch

    return torch.from_numpy(numpy.ascontiguousarray(value, dtype="float32"))


def spans(get: Get, name: str, count: int) -> list[int]:
    """One number an axis; one where nothing is said."""
    value = get(name)
    return [1] * count if value is None else [int(each) for each in value]


def padded(get: Get, x: Any, kernel: list[int], fill: float = 0.0) -> Any:
    """`x` with what `pad_type` says before and after each of its last axes."""
    import torch

    count, kind = len(kernel), get("pad_type") or "valid"
    strides, dilations = spans(get, "strides", count), spans(get, "dilations", count)
    ends: list[int] = []
    for axis in reversed(range(count)):
        if kind == "custom":
            ends += [int(each) for each in get("pad")[2 * axis : 2 * axis + 2]]
            continue
        size = x.shape[axis - count]
        reach = (-(-size // strides[axis]) - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1
        total = max(reach - size, 0) if kind in ("same", "same_lower") else 0
        low, high = total // 2, total - total // 2
        ends += [high, low] if kind == "same_lower" else [low, high]
    return torch.nn.functional.pad(x, ends, value=fill)


def conv(get: Get) -> Any:
    """[n, in, ...] by a weight of [out, in / groups, ...]."""
    import torch

    x, weight, bias = tensor(get("x")), tensor(get("weight")), get("bias")
    count = weight.dim() - 2
    run = getattr(torch.nn.functional, f"conv{count}d")
    found = run(
        padded(get, x, list(weight.shape[2:])),
        weight,
        None if bias is None else tensor(bias),
        spans(get, "strides", count),
        0,
        spans(get, "dilations", count),
        int(get("groups") or 1),
    )
    return found.numpy()


def conv_transpose(get: Get) -> Any:
    """[n, in, ...] by a weight of [in, out / groups, ...]; `pad` is cut off."""
    import torch

    if get("pad_type") not in (None, "valid", "custom") or get("output_shape") is not None:
        raise CannotTryError("a transposed convolution with a stated shape is tried on macOS alone")
    weight, bias = tensor(get("weight")), get("bias")
    count = weight.dim() - 2
    run = getattr(torch.nn.functional, f"conv_transpose{count}d")
    found = run(
        tensor(get("x")),
        weight,
        None if bias is None else tensor(bias),
        spans(get, "strides", count),
        0,
        0,
        int(get("groups") or 1),
        spans(get, "dilations", count),
    )
    for axis in range(count) if get("pad_type") == "custom" else ():
        low, high = (int(each) for each in get("pad")[2 * axis : 2 * axis + 2])
        found = found.narrow(axis + 2, low, found.shape[axis + 2] - low - high)
    return found.numpy()


def linear(get: Get) -> Any:
    """The product of `x` and the weight turned, and the bias."""
    import torch

    bias = get("bias")
    found = torch.nn.functional.linear(
        tensor(get("x")), tensor(get("weight")), None if bias is None else tensor(bias)
    )
    return found.numpy()


def matmul(get: Get) -> Any:
    """The product of `x` and `y`, each turned where that is said."""
    x, y = tensor(get("x")), tensor(get("y"))
    x = x.transpose(-1, -2) if get("transpose_x") else x
    y = y.transpose(-1, -2) if get("transpose_y") else y
    return (x @ y).numpy()


def batch_norm(get: Get) -> Any:
    """With the statistics that it holds."""
    import torch

    scale, shift = get("gamma"), get("beta")
    found = torch.nn.functional.batch_norm(
        tensor(get("x")),
        tensor(get("mean")),
        tensor(get("variance")),
        None if scale is None else tensor(scale),
        None if shift is None else tensor(shift),
        eps=float(get("epsilon") or 1e-5),
    )
    return found.numpy()


def windows(get: Get, fill: float) -> tuple[Any, Any]:
    """The padded input cut into windows, [..., numbers of a window], and the same of ones."""
    import torch

    if get("ceil_mode"):
        raise CannotTryError("pooling that rounds up is tried on macOS alone")
    kernel = [int(each) for each in get("kernel_sizes")]
    x = tensor(get("x"))
    found = []
    for each, outside in ((x, fill), (torch.ones_like(x), 0.0)):
        each = padded(get, each, kernel, outside)
        for axis, (size, step) in enumerate(zip(kernel, spans(get, "strides", len(kernel)), strict=True), 2):
            each = each.unfold(axis, size, step)
        found.append(each.flatten(x.dim()))
    return found[0], found[1]


def max_pool(get: Get) -> Any:
    """The largest of each window."""
    return windows(get, float("-inf"))[0].amax(-1).numpy()


def avg_pool(get: Get) -> Any:
    """The mean of each window, with or without what was padded."""
    numbers, ones = windows(get, 0.0)
    count = ones.sum(-1) if get("exclude_padding_from_average") else float(ones.shape[-1])
    return (numbers.sum(-1) / count).numpy()


def reshape(get: Get) -> Any:
    """A length of 0 is that of `x`, one of -1 what is left."""
    x, shape = get("x"), [int(each) for each in get("shape")]
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)])


def expand_dims(get: Get) -> Any:
    """With an axis of length 1 at each place of the result that is named."""
    import numpy

    return numpy.expand_dims(get("x"), tuple(int(each) for each in get("axes")))


def shape(get: Get) -> Any:
    """The lengths of the axes."""
    import numpy

    return numpy.array(get("x").shape, "int32")


def concat(get: Get) -> Any:
    """One after the other."""
    import numpy

    if get("interleave"):
        raise CannotTryError("interleaving is tried on macOS alone")
    return numpy.concatenate(get("values"), int(get("axis")))


KERNELS: dict[str, Callable[[Get], Any]] = {
    "reshape": reshape,
    "expand_dims": expand_dims,
    "shape": shape,
    "concat": concat,
    "conv": conv,
    "conv_transpose": conv_transpose,
    "linear": linear,
    "matmul": matmul,
    "batch_norm": batch_norm,
    "max_pool": max_pool,
    "avg_pool": avg_pool,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
