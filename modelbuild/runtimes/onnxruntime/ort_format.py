"""ORT format made canonical: ONNX Runtime writes what it keeps in hash maps in another order in every process.

Sorted is what ONNX Runtime's reader looks up by name. The order of nodes, inputs, outputs and edges, and of the
arguments of a type constraint (the reader takes the first that exists) means something and stays.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime import flatbuffer
from modelbuild.runtimes.onnxruntime.flatbuffer import FormatError, Table, schema
from modelbuild.runtimes.onnxruntime.options import NAME

# The published schema of ONNX Runtime 1.13 to 1.32; "-" is what it marks as deprecated.
SCHEMA = schema(
    {
        "InferenceSession": "ort_version:string model:Model session_state:- "
        "kernel_type_str_resolver:KernelTypeStrResolver",
        "Model": "ir_version:int64 opset_import:[OperatorSetId] producer_name:string producer_version:string "
        "domain:string model_version:int64 doc_string:string graph:Graph graph_doc_string:string "
        "metadata_props:[StringStringEntry]",
        "OperatorSetId": "domain:string version:int64",
        "StringStringEntry": "key:string value:string",
        "Graph": "initializers:[Tensor] node_args:[ValueInfo] nodes:[Node] max_node_index:uint32 "
        "node_edges:[NodeEdge] inputs:[string] outputs:[string] sparse_initializers:[SparseTensor] "
        "runtime_optimizations:RuntimeOptimizations",
        # Aligned so that a reader may use the weights where they lie.
        "Tensor": "name:string doc_string:string dims:[int64] data_type:int32 raw_data:[uint8]/16 "
        "string_data:[string] external_data_offset:int64=-1",
        "SparseTensor": "values:Tensor indices:Tensor dims:[int64]",
        "ValueInfo": "name:string doc_string:string type:TypeInfo",
        "TypeInfo": "denotation:string value_type:uint8 value:TensorTypeAndShape|SequenceType|MapType",
        "TensorTypeAndShape": "elem_type:int32 shape:Shape",
        "SequenceType": "elem_type:TypeInfo",
        "MapType": "key_type:int32 value_type:TypeInfo",
        "Shape": "dim:[Dimension]",
        "Dimension": "value:DimensionValue denotation:string",
        "DimensionValue": "dim_type:int8 dim_value:int64 dim_param:string",
        "Node": "name:string doc_string:string domain:string since_version:int32 index:uint32 op_type:string "
        "type:int32 execution_provider_type:string inputs:[string] outputs:[string] attributes:[Attribute] "
        "input_arg_counts:[int32] implicit_inputs:[string]",
        "NodeEdge": "node_index:uint32 input_edges:[EdgeEnd] output_edges:[EdgeEnd]",
        "Attribute": "name:string doc_string:string type:int32 f:float32 i:int64 s:string t:Tensor g:Graph "
        "floats:[float32] ints:[int64] strings:[string] tensors:[Tensor] graphs:[Graph]",
        "RuntimeOptimizations": "records:[RuntimeOptimizationRecordContainerEntry]",
        "RuntimeOptimizationRecordContainerEntry": "optimizer_name:string "
        "runtime_optimization_records:[RuntimeOptimizationRecord]",
        "RuntimeOptimizationRecord": "action_id:string nodes_to_optimize_indices:NodesToOptimizeIndices "
        "produced_nodes:- produced_op_ids:[string]",
        "NodesToOptimizeIndices": "node_indices:[uint32] num_inputs:uint32 num_outputs:uint32 "
        "has_variadic_input:bool has_variadic_output:bool num_variadic_inputs:uint32 num_variadic_outputs:uint32",
        "KernelTypeStrResolver": "op_kernel_type_str_args:[OpIdKernelTypeStrArgsEntry]",
        "OpIdKernelTypeStrArgsEntry": "op_id:string kernel_type_str_args:[KernelTypeStrArgsEntry]",
        "KernelTypeStrArgsEntry": "kernel_type_str:string args:[ArgTypeAndIndex]",
        "ArgTypeAndIndex": "arg_type:int8 index:uint32",
    },
    root="InferenceSession",
    identifier=b"ORTM",
    structs={"EdgeEnd": 12},
)
# What the reader looks up by name, and the name: of the fields and of their elements.
NAMED = {
    "initializers": "name",
    "sparse_initializers": "values",
    "node_args": "name",
    "attributes": "name",
    "opset_import": "domain",
    "metadata_props": "key",
    "records": "optimizer_name",
    "op_kernel_type_str_args": "op_id",
    "kernel_type_str_args": "kernel_type_str",
}


def canonical(data: bytes) -> bytes:
    """The same model in one order; canonical bytes stay as they are.

    Raises RecipeError for bytes that are no ORT file, for one with parts that are not known here, and for one that
    keeps tensors in another file.
    """
    try:
        session = flatbuffer.read(data, SCHEMA)
        _order(session)
        return flatbuffer.write(session, SCHEMA)
    except FormatError as error:
        remedy = "Write it again from the ONNX file; a version that writes other fields is not supported"
        raise RecipeError(NAME, f"the file in ORT format cannot be put in order: {error}", remedy) from error


def _order(table: Table) -> None:
    if "external_data_offset" in table:
        raise FormatError(f'the tensor "{_shown(table.get("name", b""))}" lies in another file')
    for name, value in table.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                _order(each)
        if name in NAMED:
            _sort(name, value)


def _sort(field: str, elements: list[Any]) -> None:
    """Sort in place, by bytes: a reader finds keys by halving."""
    elements.sort(key=lambda each: _name(NAMED[field], each))
    names = [_name(NAMED[field], each) for each in elements]
    for one, next_one in pairwise(names):
        if one == next_one:
            raise FormatError(f'two of {field} are called "{_shown(one)}"')


def _name(key: str, element: Table) -> bytes:
    found = element.get(key, b"")
    return _name("name", found) if isinstance(found, dict) else bytes(found)


def _shown(name: bytes) -> str:
    return name.decode(errors="replace")
