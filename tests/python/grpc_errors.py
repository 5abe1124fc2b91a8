"""What a host refuses on gRPC, in which words, and what hostile callers get.

Owns the checks of errors. Texts are compared with those of REST for the same mistake.
"""

import queue

import grpc
from tritonclient.grpc import service_pb2 as pb

from client_support import expect
from grpc_support import SERVICE, metadata_of, refusal

CODE = grpc.StatusCode
ENTRIES = []


def register(checks):
    """Adds the checks of this file."""
    for name, function in ENTRIES:
        checks.add(name, function)


def check(name):
    """Notes the function below it as a check."""

    def note(function):
        ENTRIES.append((name, function))
        return function

    return note


def refused(host, request, **more):
    """The error that a request for inference fails with."""
    return refusal(lambda: host.call("ModelInfer", request.SerializeToString(), **more))


def asked(model="identity_fp32", datatype="FP32", shape=(1, 2), raw=b"\0" * 8, name="x", **more):
    """A request with one raw input."""
    request = pb.ModelInferRequest(model_name=model, **more)
    request.inputs.add(name=name, datatype=datatype, shape=shape)
    request.raw_input_contents.append(raw)
    return request


def as_json(datatype="FP32", shape=(1, 2), data=(0, 0), name="x", **more):
    """The same over REST."""
    return {"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": data}]} | more


SAME = [
    ("an unknown model", "nobody", asked("nobody"), as_json(), CODE.NOT_FOUND),
    ("an unknown input", "identity_fp32", asked(name="z"), as_json(name="z"), CODE.INVALID_ARGUMENT),
    (
        "another datatype",
        "identity_fp32",
        asked(datatype="INT32"),
        as_json(datatype="INT32"),
        CODE.INVALID_ARGUMENT,
    ),
    (
        "another shape",
        "identity_fp32",
        asked(shape=(2,)),
        as_json(shape=(2,)),
        CODE.INVALID_ARGUMENT,
    ),
    (
        "a shape that never ends",
        "identity_fp32",
        asked(shape=(2**62, 2**62)),
        as_json(shape=(2**62, 2**62)),
        CODE.INVALID_ARGUMENT,
    ),
]


def add_same(what, model, request, body, code):
    """Compares the words of gRPC and of REST."""

    def run(host):
        error = refused(host, request)
        rest = host.refused(f"/v2/models/{model}/infer", body)
        expect(error.code() == code, f"got {error.code()}: {error.details()}")
        expect(error.details() == rest, f"gRPC says {error.details()!r}, REST {rest!r}")
        expect(metadata_of(error).get("nuke-code") == code.name.lower(), f"got {metadata_of(error)}")
        expect(len(metadata_of(error).get("x-request-id", "")) == 32, f"got {metadata_of(error)}")

    ENTRIES.append((f"{what} is told as on REST", run))


for each in SAME:
    add_same(*each)


@check("an unknown output and a wrong parameter are told as on REST")
def outputs_and_parameters(host):
    request = asked()
    request.outputs.add(name="nothing")
    rest = host.refused("/v2/models/identity_fp32/infer", as_json(outputs=[{"name": "nothing"}]))
    expect(refused(host, request).details() == rest, f"REST says {rest!r}")
    request = asked()
    request.parameters["priority"].int64_param = -1
    rest = host.refused("/v2/models/identity_fp32/infer", as_json(parameters={"priority": -1}))
    expect(refused(host, request).details() == rest, f"REST says {rest!r}")
    for parameters in ({"sequence_id": 7}, {"sequence_start": True}):
        request = asked()
        for name, value in parameters.items():
            setattr(request.parameters[name], "bool_param" if value is True else "int64_param", value)
        error = refused(host, request)
        rest = host.refused("/v2/models/identity_fp32/infer", as_json(parameters=parameters))
        expect(error.code() == CODE.UNIMPLEMENTED and error.details() == rest, f"got {error}, REST {rest!r}")


@check("raw contents of the wrong length, two forms at once, or too few")
def raw_contents(host):
    error = refused(host, asked(raw=b"\0" * 7))
    expect(error.details() == "tensor 'x': FP32 of shape [1, 2] takes 8 bytes, got 7", error.details())
    request = asked()
    request.inputs[0].contents.fp32_contents.extend([1, 2])
    expect("expected one of them" in refused(host, request).details(), "both forms were taken")
    request = asked()
    request.raw_input_contents.append(b"")
    expect("has 2 entries for 1 inputs" in refused(host, request).details(), "two for one were taken")


@check("a message that is none, and none at all")
def no_message(host):
    for message in (b"\xff" * 40, b"\x3a\xff\xff\xff\xff\x0f", b"\x0a\x02\xff\xff", b"\x29"):
        error = refusal(lambda: host.call("ModelInfer", message))
        expect(error.code() == CODE.INVALID_ARGUMENT, f"{message!r}: {error}")
    error = refusal(lambda: host.call("ModelReady", b"\xff\xff"))
    expect(error.code() == CODE.INVALID_ARGUMENT and "cannot be read" in error.details(), f"got {error}")


@check("methods and services that there are not, and extensions that are not served")
def unknown_methods(host):
    for path in ("/inference.GRPCInferenceService/Nothing", "/other.Service/Method", "/v2/health/live"):
        error = refusal(lambda: host.call(path, b""))
        expect(error.code() == CODE.UNIMPLEMENTED, f"{path}: {error}")
        expect(error.details() == f"there is no gRPC method {path}", f"{path}: {error.details()!r}")
    for method in (
        "SystemSharedMemoryStatus",
        "SystemSharedMemoryRegister",
        "SystemSharedMemoryUnregister",
        "CudaSharedMemoryStatus",
        "CudaSharedMemoryRegister",
        "CudaSharedMemoryUnregister",
        "TraceSetting",
        "LogSettings",
    ):
        error = refusal(lambda: host.call(method, b""))
        expect(error.code() == CODE.UNIMPLEMENTED, f"{method}: {error}")
        expect("is not served by this version" in error.details(), f"{method}: {error.details()!r}")


@check("messages over the limit, also once they are expanded")
def oversized(host):
    # 64 MiB is the default of server.max_body.
    large = asked(shape=(1, 17 << 20), raw=bytes(68 << 20))
    error = refused(host, large)
    expect(error.code() == CODE.RESOURCE_EXHAUSTED and "over the limit of" in error.details(), f"got {error}")
    error = refused(host, large, compression=grpc.Compression.Gzip)
    expect(error.code() == CODE.RESOURCE_EXHAUSTED and "over the limit of" in error.details(), f"got {error}")
    # Small messages have a limit of their own.
    error = refusal(lambda: host.call("ModelReady", b"\x0a" + b"\x80\x80\x80\x01" + bytes(2 << 20)))
    expect(error.code() == CODE.RESOURCE_EXHAUSTED, f"got {error}")


@check("a compression that is not read")
def other_compression(host):
    deflate = refused(host, asked(), compression=grpc.Compression.Deflate)
    expect(deflate.code() == CODE.UNIMPLEMENTED, f"got {deflate}")
    expect("send messages as they are, or by gzip or zstd" in deflate.details(), f"got {deflate}")


@check("thousands of calls, and of messages of one stream, on one connection")
def sustained(host):
    # A client's frames for each of them (round trips measured, windows opened) must not look like a flood.
    channel = host.open([("grpc.use_local_subchannel_pool", 1)])
    message = asked().SerializeToString()
    call = channel.unary_unary(SERVICE + "ModelInfer", lambda sent: sent, lambda came: came)
    for _ in range(3000):
        expect(call(message), "an empty answer")
    stream = channel.stream_stream(SERVICE + "ModelStreamInfer", lambda sent: sent, lambda came: came)
    waiting = queue.SimpleQueue()
    answers = stream(iter(waiting.get, None))
    for _ in range(3000):
        waiting.put(message)
        expect(next(answers), "an empty answer")
    waiting.put(None)
    expect(next(answers, None) is None, "the stream does not end")
    channel.close()


@check("a thousand calls that are taken back, and an honest client beside them")
def cancelled(host):
    # Its connection is its own: the host closes one on which too many calls are taken back.
    channel = host.open([("grpc.use_local_subchannel_pool", 1)])
    call = channel.unary_unary(SERVICE + "ModelInfer", lambda sent: sent, lambda came: came)
    message = asked(shape=(1, 1000), raw=bytes(4000)).SerializeToString()
    for number in range(1000):
        call.future(message).cancel()
        if number % 100 == 0:
            expect(pb.ModelInferResponse.FromString(host.call("ModelInfer", message)).outputs, "no answer")
    channel.close()
    stream = host.stream("ModelStreamInfer", iter([message] * 50))
    next(stream)
    stream.cancel()
    answer = pb.ModelInferResponse.FromString(host.call("ModelInfer", message))
    expect(answer.raw_output_contents[0] == bytes(4000), "the honest answer is another")
