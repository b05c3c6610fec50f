"""A teacher that is an ONNX file: what ONNX Runtime computes from it, any value of the graph by name.

On one thread of the processor and with every optimisation off, so that a label is what the file says: optimised, an
int8 file runs in kernels that saturate on some processors and not on others, and what is fused away depends on which
values are asked for. It takes about a fifth more time (an int8 text-to-speech model), once for all students.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, ValueInfoProto

from modelbuild import samples
from modelbuild.callables import in_words
from modelbuild.dataset import Array
from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.recipes import canonical, signature, unoptimised
from modelbuild.samples import Port

Arrays = Mapping[str, Array]
THROUGH = 'Give the teacher a "through" function that runs the file as it has to be run.'


class OnnxTeacher:
    """The ONNX file at `path`; `place` is what messages call it."""

    def __init__(self, path: Path, place: str) -> None:
        self.place, self._model = place, onnx.load(path, load_external_data=False)
        graph = self._model.graph
        constants = {each.name for each in graph.initializer}
        ports = signature.describe(self._model)["inputs"]
        self.inputs = [
            Port(p["name"], p["dtype"], tuple(p["shape"])) for p in ports if p["name"] not in constants
        ]
        self.outputs = [port.name for port in graph.output]
        given = (name for node in graph.node for name in node.output if name)
        self._known = {*constants, *(port.name for port in self.inputs), *given}
        self._shown = [*self.outputs]
        self._session: Any = None

    def run(self, feeds: Arrays, names: Sequence[str]) -> list[Array]:
        """The values called `names`, any of the outer graph, for `feeds`: arrays for the file's inputs by name.

        Raises RecipeError for a name that the graph has not, and when ONNX Runtime does not run the file so.
        """
        wanted = [*dict.fromkeys(names)]
        session = self._opened(wanted)
        try:
            found = dict(zip(wanted, session.run(wanted, dict(feeds)), strict=True))
        except Exception as error:
            fact = f"ONNX Runtime {onnxruntime.__version__} does not run it: {in_words(error)}"
            raise RecipeError(self.place, fact) from error
        return [found[name] for name in names]

    def batches(self, data: Arrays, names: Sequence[str]) -> Iterator[tuple[int, int, dict[str, Array]]]:
        """First sample, number of samples and the values `names` of batch after batch of `data`.

        Samples are alone where the file takes one, and where it chooses the scale of its integers from all that it is
        given: a label must not depend on who else is in the batch. A larger fixed batch is filled up with its last
        sample. Raises RecipeError when `data` is not what the file takes, and as `run` does.
        """
        count = samples.counted(self.place, [samples.wanted(port) for port in self.inputs], data)
        fixed = self._fixed()
        size = fixed or (1 if _scales_by_batch(self._model) else samples.USUAL_BATCH)
        for start in range(0, count, size):
            kept = min(size, count - start)
            values = self.run(samples.batch(data, start, fixed or kept), names)
            rows = (
                samples.rows_of(self.place, n, v, fixed or kept) for n, v in zip(names, values, strict=True)
            )
            yield start, kept, {name: array[:kept] for name, array in zip(names, rows, strict=True)}

    def _fixed(self) -> int | None:
        lengths = {port.shape[0] for port in self.inputs if port.shape and isinstance(port.shape[0], int)}
        if len(lengths) > 1:
            fact = f"the first axes of its inputs are {', '.join(map(str, sorted(lengths)))}: none is the samples"
            raise RecipeError(self.place, fact, THROUGH)
        return lengths.pop() if lengths else None

    def _opened(self, names: Sequence[str]) -> Any:
        """A session that has the values `names` as outputs, and all that were asked for before."""
        unknown = [name for name in names if name not in self._known]
        if unknown:
            remedy = did_you_mean(unknown[0], sorted(self._known))
            raise RecipeError(self.place, f'it has no value "{unknown[0]}"', remedy)
        further = [name for name in names if name not in self._shown]
        if self._session is None or further:
            self._shown += further
            # Without a type: ONNX Runtime infers it, and a type that is wrong would be an error.
            self._model.graph.output.extend(ValueInfoProto(name=name) for name in further)
            self._session = None  # lets go of its copy of the weights before there is another
            self._session = unoptimised.session_of(self._model.SerializeToString(), self.place)
        return self._session


def _scales_by_batch(model: ModelProto) -> bool:
    nodes = (each for each in canonical.walk(model) if isinstance(each, NodeProto))
    return any(node.op_type == "DynamicQuantizeLinear" for node in nodes)
