#!/usr/bin/env python3
"""Every datatype that has a typed form in gRPC's messages, each through a model of its own.

    python grpc_typed.py make models           # one model for each datatype, which gives back what it gets
    python grpc_typed.py ask 127.0.0.1:8081    # a line for each that came back, first typed, then raw
"""

import pathlib
import sys

import grpc
import onnx
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as pb

from client_support import VALUES, expect, same
from grpc_conformance import LISTS
from grpc_support import SERVICE

NAMES = {"FP32": "FLOAT", "FP64": "DOUBLE", "BYTES": "STRING"}


def make(folder):
    """Writes the models."""
    for datatype in LISTS:
        kind = getattr(onnx.TensorProto, NAMES.get(datatype, datatype))
        value = lambda name: onnx.helper.make_tensor_value_info(name, kind, [None, None])
        node = onnx.helper.make_node("Identity", ["x"], ["y"])
        graph = onnx.helper.make_graph([node], "identity", [value("x")], [value("y")])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        path = pathlib.Path(folder) / datatype.lower() / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        path.write_bytes(model.SerializeToString())


def requests(datatype):
    """The same values as a list of their type, and as bytes."""
    values = VALUES[datatype]
    typed = pb.ModelInferRequest(model_name=datatype.lower())
    one = typed.inputs.add(name="x", datatype=datatype, shape=values.shape)
    getattr(one.contents, LISTS[datatype]).extend(values.reshape(-1).tolist())
    made = triton.InferInput("x", list(values.shape), datatype)
    made.set_data_from_numpy(values)
    raw = pb.ModelInferRequest(model_name=datatype.lower(), raw_input_contents=[made._get_content()])
    raw.inputs.add(name="x", datatype=datatype, shape=values.shape)
    return typed, raw


def ask(address):
    """Asks each model for what it was given."""
    channel = grpc.insecure_channel(address)
    infer = channel.unary_unary(
        SERVICE + "ModelInfer", pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
    )
    for datatype in LISTS:
        for request in requests(datatype):
            found = triton.InferResult(infer(request, timeout=60)).as_numpy("y")
            expect(same(VALUES[datatype], found), f"{datatype}: sent {VALUES[datatype]}, got {found}")
        print("ok", datatype)


if __name__ == "__main__":
    {"make": make, "ask": ask}[sys.argv[1]](sys.argv[2])
