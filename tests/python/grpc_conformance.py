#!/usr/bin/env python3
"""Checks a running host with clients of gRPC: tritonclient[grpc], grpcio and grpcio-reflection.

    python grpc_conformance.py http://127.0.0.1:8080 127.0.0.1:8081 [--ca FILE] [--only TEXT]

The first address is REST's, to compare with. The host has to serve the models of tests/fixtures/models, version 1
of each. Prints a line for each check and `N passed, N failed`; the exit code is 0 only if none failed.
"""

import argparse
import queue
import sys

import ml_dtypes
import numpy as np
import tritonclient.grpc as triton
from google.protobuf import json_format
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

import grpc_errors
import grpc_repository
from client_support import VALUES, Checks, expect, same
from grpc_support import Host, metadata_of, tensor

CHECKS = Checks()
SMALL = {name: values.reshape(-1)[:1].reshape(1, 1) for name, values in VALUES.items()}


def dictionary(message):
    """A message as JSON, under the names of its fields."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


# Health and metadata


@CHECKS.check("the server is live and ready, a model and its version too")
def health(host):
    client = host.client
    expect(client.is_server_live() and client.is_server_ready(), "not live or not ready")
    expect(client.is_model_ready("tiny") and client.is_model_ready("tiny", "1"), "tiny is not ready")


@CHECKS.check("metadata of the server are those of REST")
def server_metadata(host):
    found, rest = dictionary(host.client.get_server_metadata()), host.get("/v2")
    expect(found == rest, f"got {found}, REST says {rest}")


@CHECKS.check("metadata of every model are those of REST")
def model_metadata(host):
    for model in host.get("/v2/models")["models"]:
        for version in ("", "1"):
            found = dictionary(host.client.get_model_metadata(model, version))
            rest = host.get(f"/v2/models/{model}" + (f"/versions/{version}" if version else ""))
            for spec in rest["inputs"] + rest["outputs"]:
                spec["shape"] = [str(size) for size in spec["shape"]]
                if not spec["shape"]:
                    del spec["shape"]
            expect(found == rest, f"got {found}, REST says {rest}")


@CHECKS.check("the configuration of every model is that of REST")
def model_config(host):
    for model in host.get("/v2/models")["models"]:
        message = host.client.get_model_config(model).config
        found = json_format.MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        rest = host.get(f"/v2/models/{model}/config")
        expect(rest, "REST has no configuration")
        for key, value in rest.items():
            told = found[key]
            if key in ("input", "output"):
                told = [{"name": one["name"], "data_type": one["data_type"], "dims": one["dims"]} for one in told]
                value = [one | {"dims": [str(size) for size in one["dims"]]} for one in value]
            elif key == "instance_group":
                told = [{"name": one["name"], "kind": one["kind"], "count": one["count"]} for one in told]
            expect(told == value, f"{model}: {key} is {told}, REST says {value}")


# Every datatype


def infer_all_types(host, datatype, values):
    """Sends `values` through the model's input of that datatype, and one element through each other."""
    inputs = [tensor(f"in_{name}", name, values if name == datatype else small) for name, small in SMALL.items()]
    outputs = [triton.InferRequestedOutput(f"out_{datatype}")]
    return host.client.infer("all_types", inputs, outputs=outputs)


def add_datatype_check(datatype):
    def run(host):
        result = infer_all_types(host, datatype, VALUES[datatype])
        expect(len(result.get_response().outputs) == 1, "outputs came that were not asked for")
        answer = result.as_numpy(f"out_{datatype}")
        expect(same(VALUES[datatype], answer), f"sent {VALUES[datatype].tolist()}, got {answer.tolist()}")

    CHECKS.add(f"{datatype} as raw contents", run)


LISTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
MODELS = {"FP32": "identity_fp32", "BYTES": "echo_bytes"}


def add_typed_check(datatype):
    def run(host):
        # FP16 and BF16 have no typed form, so that `all_types` cannot be asked for the others in it.
        request = pb.ModelInferRequest(model_name="all_types", id="typed")
        for name, small in SMALL.items():
            values = VALUES[name] if name == datatype else small
            one = request.inputs.add(name=f"in_{name}", datatype=name, shape=values.shape)
            if name in LISTS:
                getattr(one.contents, LISTS[name]).extend(values.reshape(-1).tolist())
        answer = grpc_errors.refused(host, request)
        expect("has neither 'contents' nor raw_input_contents" in answer.details(), answer.details())
        model = host.get(f"/v2/models/{MODELS[datatype]}")["inputs"][0]
        values = VALUES[datatype] if len(model["shape"]) == 2 else VALUES[datatype].reshape(-1)
        request = pb.ModelInferRequest(model_name=MODELS[datatype])
        one = request.inputs.add(name=model["name"], datatype=datatype, shape=values.shape)
        getattr(one.contents, LISTS[datatype]).extend(values.reshape(-1).tolist())
        response = pb.ModelInferResponse.FromString(host.call("ModelInfer", request.SerializeToString()))
        expect(len(response.raw_output_contents) == 1, f"got {response}")
        result = triton.InferResult(response).as_numpy(response.outputs[0].name)
        expect(same(values, result), f"sent {values.tolist()}, got {result.tolist()}")

    CHECKS.add(f"{datatype} as typed contents", run)


for each in VALUES:
    add_datatype_check(each)
for each in MODELS:
    add_typed_check(each)


@CHECKS.check("BYTES elements of any bytes, and NaN and infinity")
def special_values(host):
    values = np.array([[b"\x00", b"\xff\xfe\x00\x01", bytes(range(256))]], object)
    answer = infer_all_types(host, "BYTES", values).as_numpy("out_BYTES")
    expect(same(values, answer), f"got {answer.tolist()}")
    for datatype, dtype in (("FP16", np.float16), ("BF16", ml_dtypes.bfloat16), ("FP32", np.float32)):
        values = np.array([[np.nan, np.inf, -np.inf]], dtype)
        answer = infer_all_types(host, datatype, values).as_numpy(f"out_{datatype}")
        expect(same(values, answer), f"{datatype}: got {answer.tolist()}")


@CHECKS.check("an empty tensor comes back empty")
def empty_tensor(host):
    answer = infer_all_types(host, "INT32", np.empty((0, 3), np.int32)).as_numpy("out_INT32")
    expect(answer.shape == (0, 3), f"shape is {answer.shape}")


@CHECKS.check("all outputs of every datatype at once")
def everything(host):
    inputs = [tensor(f"in_{name}", name, values) for name, values in VALUES.items()]
    result = host.client.infer("all_types", inputs)
    for name, values in VALUES.items():
        expect(same(values, result.as_numpy(f"out_{name}")), f"out_{name}: got {result.as_numpy(f'out_{name}')}")


# Requests and answers

A = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)
B = np.array([[0.5, 0, -1, 4], [1, 1, 1, 1]], np.float32)


def both():
    """The inputs of `two_inputs`."""
    return [tensor("A", "FP32", A), tensor("B", "FP32", B)]


@CHECKS.check("inputs in any order, chosen outputs, id, version, priority, timeout and parameters")
def two_inputs(host):
    result = host.client.infer(
        "two_inputs",
        both()[::-1],
        model_version="1",
        outputs=[triton.InferRequestedOutput("DIFF")],
        request_id="one/2 drei",
        priority=2,
        timeout=5_000_000,
        parameters={"note": "x", "ratio": 0.5, "flag": True, "count": -3},
        headers={"x-request-id": "r-1"},
    )
    response = result.get_response()
    expect((response.model_name, response.model_version) == ("two_inputs", "1"), f"got {response}")
    expect(response.id == "one/2 drei", f"id is {response.id!r}")
    expect(same(A - B, result.as_numpy("DIFF")), f"DIFF is {result.as_numpy('DIFF')}")
    expect(result.as_numpy("SUM") is None, "SUM came, too")


@CHECKS.check("answers name the version that made them and the request's id")
def answer_metadata(host):
    message = request_for("fixed", np.arange(6, dtype=np.float32).reshape(2, 3), name="x")
    call = host.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", lambda sent: sent, lambda came: came)
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    _, done = call.with_call(message.SerializeToString(), metadata=(("traceparent", trace),), timeout=30)
    metadata = dict(done.initial_metadata())
    expect(metadata.get("x-nuke-model-version") == "1", f"got {metadata}")
    expect(metadata.get("x-request-id") == trace[3:35], f"got {metadata}")
    expect("grpc-encoding" not in metadata, f"compressed though nobody asked: {metadata}")


@CHECKS.check("two pictures' worth of numbers, there and back, also compressed")
def big_tensor(host):
    values = np.random.default_rng(0).standard_normal((2, 3, 224, 224), np.float32)
    for algorithm in (None, "gzip"):
        result = host.client.infer("big", [tensor("x", "FP32", values)], compression_algorithm=algorithm)
        expect(same(values, result.as_numpy("y")), f"{algorithm}: what came back is not what was sent")


@CHECKS.check("many requests at once, each gets its own answer")
def concurrent(host):
    values = [np.full((1, 5), number, np.float32) for number in range(64)]
    answers = queue.Queue()
    for number, each in enumerate(values):
        keep = lambda result, error, number=number: answers.put((number, result, error))
        host.client.async_infer("identity_fp32", [tensor("x", "FP32", each)], keep)
    for _ in values:
        number, result, error = answers.get(timeout=60)
        expect(error is None, f"request {number}: {error}")
        expect(same(values[number], result.as_numpy("y")), f"request {number} got another's answer")


def request_for(model, values, name="x", request_id=""):
    """A message for a model of one FP32 input."""
    request = pb.ModelInferRequest(model_name=model, id=request_id)
    request.inputs.add(name=name, datatype="FP32", shape=values.shape)
    request.raw_input_contents.append(values.tobytes())
    return request


# Streams


@CHECKS.check("a stream answers in order, and an error in its place")
def stream_in_order(host):
    requests = []
    for number in range(100):
        model = "nobody" if number % 10 == 7 else "identity_fp32"
        requests.append(request_for(model, np.full((1, 3), number, np.float32), request_id=str(number)))
    answers = host.stream("ModelStreamInfer", [request.SerializeToString() for request in requests])
    found = [pb.ModelStreamInferResponse.FromString(answer) for answer in answers]
    expect(len(found) == 100, f"{len(found)} answers came")
    for number, answer in enumerate(found):
        expect(answer.infer_response.id == str(number), f"answer {number} is for {answer.infer_response.id}")
        if number % 10 == 7:
            expect("unknown model: 'nobody'" in answer.error_message, f"{number}: {answer}")
        else:
            expect(not answer.error_message, f"{number}: {answer}")
            values = np.frombuffer(answer.infer_response.raw_output_contents[0], np.float32)
            expect(values.tolist() == [number] * 3, f"{number}: {values}")


@CHECKS.check("a stream ends with its error's status if it asks for that")
def stream_status(host):
    requests = [request_for(model, A[:1]).SerializeToString() for model in ("identity_fp32", "nobody", "identity_fp32")]
    answers = host.stream("ModelStreamInfer", requests, metadata=(("triton_grpc_error", "true"),))
    error = grpc_errors.refusal(lambda: list(answers))
    expect(error.code() == grpc_errors.CODE.NOT_FOUND, f"got {error}")
    expect(metadata_of(error).get("nuke-code") == "not_found", f"got {error}")


@CHECKS.check("tritonclient's own stream, with the mark of last answers")
def client_stream(host):
    answers = queue.Queue()
    client = host.triton()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(20):
        values = np.full((1, 2), number, np.float32)
        client.async_stream_infer(
            "identity_fp32", [tensor("x", "FP32", values)], enable_empty_final_response=number % 2 == 1
        )
    client.async_stream_infer("identity_fp32", [tensor("nothing", "FP32", A)])
    for number in range(20):
        result, error = answers.get(timeout=60)
        expect(error is None, f"{number}: {error}")
        expect(result.as_numpy("y").tolist() == [[number] * 2], f"{number}: {result.as_numpy('y')}")
        final = result.get_response().parameters
        expect(("triton_final_response" in final) == (number % 2 == 1), f"{number}: {final}")
    result, error = answers.get(timeout=60)
    expect(isinstance(error, InferenceServerException) and "nothing" in error.message(), f"got {error}")
    client.stop_stream()


grpc_errors.register(CHECKS)
grpc_repository.register(CHECKS)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("rest", help="where the host serves REST, such as http://127.0.0.1:8080")
    arguments.add_argument("grpc", help="where it serves gRPC, such as 127.0.0.1:8081")
    arguments.add_argument("--only", default="", metavar="TEXT", help="run the checks whose name contains it")
    arguments.add_argument("--ca", metavar="FILE", help="ask gRPC over TLS, and trust these certificates")
    options = arguments.parse_args()
    passed, failed = CHECKS.run(options.only, Host(options.rest.rstrip("/"), options.grpc, options.ca))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
