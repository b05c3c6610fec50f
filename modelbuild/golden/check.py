"""Holds a model to its golden samples: `python check.py [OUTPUTS] [--model FILE]`; needs NumPy and nothing else.

OUTPUTS is what an app made of the golden inputs (golden.json names them): an .npz file, or a folder with one file an
output, NAME.npy or raw little-endian values in C order (NAME.bin, or the file name in golden.json). Without it the
model beside this folder is run: by onnxruntime, or by coremltools on macOS, where that is installed.
Exit code: 0 holds, 1 RED, 2 cannot be checked.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
Array = np.ndarray[Any, Any]
Row = Mapping[str, Any]


class RedError(Exception):
    """The outputs are not what they should be."""


class CannotError(Exception):
    """There is nothing to check, or nothing to run it with."""


class Golden:
    """The rows of golden.json with their arrays. Raises CannotError where a file is missing or not whole."""

    def __init__(self, folder: Path) -> None:
        try:
            self.told = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
            self.inputs: list[Row] = self.told["inputs"]
            self.outputs: list[Row] = self.told["outputs"]
            self.feeds = {row["name"]: raw(folder / row["file"], row) for row in self.inputs}
            self.wanted = {row["name"]: raw(folder / row["file"], row) for row in self.outputs}
            limits = [row["limit"] for row in self.outputs]
        except (OSError, ValueError, KeyError, TypeError, RedError) as error:
            raise CannotError(f"the golden samples are damaged: {error!r}") from error
        if not limits or not all(isinstance(each, int | float) and 0 <= each < np.inf for each in limits):
            raise CannotError("the golden samples are damaged: they have no limits")


def raw(path: Path, row: Row) -> Array:
    """The values of a raw file in the dtype and shape of `row`. Raises RedError where there are more or fewer."""
    dtype = np.dtype(row["dtype"])
    data, due = path.read_bytes(), int(np.prod(row["shape"])) * dtype.itemsize
    if len(data) != due or not due:
        is_due = f"{due}, which {row['dtype']} {row['shape']} takes"
        raise RedError(f'output "{row["name"]}": {path.name} has {len(data)} bytes, not {is_due}')
    return np.frombuffer(data, dtype.newbyteorder("<")).reshape(row["shape"]).astype(dtype)


# -- outputs that an app wrote


def written(place: Path, golden: Golden) -> dict[str, Array]:
    """Read the outputs in `place`. Raises RedError for one that nobody expects, CannotError where there are none."""
    if place.suffix == ".npz" and place.is_file():
        with np.load(place, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    if not place.is_dir():
        raise CannotError(f"{place} is no folder and no .npz file")
    if (place / "golden.json").exists():
        raise CannotError(f"{place} holds the golden samples themselves")
    found: dict[str, Array] = {}
    for path in sorted(place.iterdir()):
        if path.suffix not in (".bin", ".npy", ".npz"):
            continue
        row = next((row for row in golden.outputs if path.name in names(row)), None)
        if row is None:
            raise RedError(f"nobody expects the output {path.name}")
        if row["name"] in found:
            raise RedError(f'output "{row["name"]}" was written twice')
        found[row["name"]] = np.load(path, allow_pickle=False) if path.suffix == ".npy" else raw(path, row)
    return found


def names(row: Row) -> tuple[str, ...]:
    """The names of the files in which an app may write the output."""
    return f"{row['name']}.npy", f"{row['name']}.bin", str(row["file"])


# -- outputs of the model itself


def outputs_of(golden: Golden, outputs: Path | None, model: Path | None) -> dict[str, Array]:
    """What an app wrote in `outputs`, else what the model gives."""
    return run(model or beside(golden), golden) if outputs is None else written(outputs, golden)


def beside(golden: Golden) -> Path:
    """The model that was delivered with this folder. Raises CannotError."""
    if not golden.told.get("artefact"):
        raise CannotError("golden.json names no artefact: say --model, or name the outputs")
    return HERE.parent / str(golden.told["artefact"])


def run(model: Path, golden: Golden) -> dict[str, Array]:
    """What the model gives for the golden inputs. Raises CannotError where it cannot be run here."""
    if not model.exists():
        raise CannotError(f"{model} is not there")
    ways = {".onnx": by_onnxruntime, ".ort": by_onnxruntime, ".mlpackage": by_core_ml}
    if model.suffix not in ways:
        raise CannotError(f"{model.name} does not run here: name the outputs that your app gives")
    try:
        return ways[model.suffix](model, golden)
    except ImportError as error:
        raise CannotError(f"{error}: install it, or name the outputs that your app gives") from error
    except RedError:
        raise
    except Exception as error:
        raise CannotError(f"the model does not run: {error}") from error


def by_onnxruntime(model: Path, golden: Golden) -> dict[str, Array]:
    """Run by ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    given = [output.name for output in session.get_outputs()]
    return dict(zip(given, session.run(given, golden.feeds), strict=True))


def by_core_ml(model: Path, golden: Golden) -> dict[str, Array]:
    """Run by Core ML, in its own names and dtypes, which golden.json tells."""
    import coremltools

    feeds = {
        row.get("core_name", row["name"]): golden.feeds[row["name"]].astype(
            row.get("core_dtype", row["dtype"])
        )
        for row in golden.inputs
    }
    given = coremltools.models.MLModel(str(model)).predict(feeds)
    ours = {row.get("core_name", row["name"]): row for row in golden.outputs}
    return {
        ours[name]["name"] if name in ours else name: of_core_ml(value, ours.get(name))
        for name, value in given.items()
    }


def of_core_ml(value: Any, row: Row | None) -> Array:
    """An array of the output's dtype: scores by class in our order, whole numbers widened where that changes none."""
    if row is not None and row.get("classes") and isinstance(value, Mapping):
        if {*value} != {*row["classes"]}:
            raise RedError(f'output "{row["name"]}" has other classes than it was made with')
        return np.array([[value[each] for each in row["classes"]]], dtype=row["dtype"])
    array = np.asarray(value)
    if row is None or row["dtype"].startswith("float"):
        return array
    cast = array.astype(row["dtype"])
    return cast if np.array_equal(cast.astype(array.dtype), array) else array


# -- comparing


def compare(golden: Golden, found: Mapping[str, Array]) -> list[str]:
    """How far each output is off, in words. Raises RedError for the first that is too far, or is no such output."""
    due = sorted(golden.wanted)
    if sorted(found) != due:
        raise RedError(f"the outputs are {', '.join(sorted(found)) or 'none'}, not {', '.join(due)}")
    return [differs(row, golden.wanted, found[row["name"]]) for row in golden.outputs]


def differs(row: Row, wanted: Mapping[str, Array], got: Array) -> str:
    """`logits off by 1e-06, limit 4.6e-05`. Raises RedError with output, sample, measured and limit."""
    name, limit, want = row["name"], row["limit"], wanted[row["name"]]
    if str(got.dtype) != row["dtype"] or got.shape != want.shape:
        raise RedError(
            f'output "{name}" is {got.dtype} {list(got.shape)}, not {want.dtype} {list(want.shape)}'
        )
    off = difference(want, got)
    if "lengths" in row:  # what fills a sample up is no output
        off[past(want.shape, wanted[row["lengths"]])] = 0
    worst = int(np.argmax(np.where(np.isnan(off), np.inf, off)))
    if off.flat[worst] <= limit:
        return f"{name} off by {off.flat[worst]:.3g}, limit {limit:.3g}"
    sample = worst // (off.size // len(off))
    told = (
        f"{got.flat[worst]} where {want.flat[worst]} is due: off by {off.flat[worst]:.4g}, limit {limit:.4g}"
    )
    raise RedError(f'output "{name}", sample {sample}, value {worst}: {told}')


def difference(want: Array, got: Array) -> Array:
    """|got - want| as float64; of whole numbers exact, of what is no number NaN."""
    if want.dtype.kind in "iu":
        high, low = np.maximum(want, got), np.minimum(want, got)
        exact: Array = (high.astype(np.uint64) - low.astype(np.uint64)).astype(
            np.float64
        )  # wraps to what is right
        return exact
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(np.abs(got.astype(np.float64) - want.astype(np.float64)))


def past(shape: tuple[int, ...], lengths: Array) -> Array:
    """Which values lie past the true length of their sample, along the first axis after the samples."""
    steps = np.arange(shape[1]).reshape(1, -1, *[1] * (len(shape) - 2))
    return np.broadcast_to(steps >= lengths.reshape(-1, 1, *[1] * (len(shape) - 2)), shape)


def main(given: list[str]) -> int:
    """Check and say what was found; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("outputs", nargs="?", type=Path, help="what an app made: a folder or an .npz file")
    parser.add_argument("--model", type=Path, help="the model to run, in place of the one beside this folder")
    asked = parser.parse_args(given)
    try:
        golden = Golden(HERE)
        told = compare(golden, outputs_of(golden, asked.outputs, asked.model))
    except RedError as error:
        print(f"RED: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        print(f"cannot be checked: {error}", file=sys.stderr)
        return 2
    print(f"holds: {golden.told['samples']} samples, {'; '.join(told)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
