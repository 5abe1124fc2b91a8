"""The repository, statistics, health and reflection on gRPC.

Owns those checks. The index is compared with REST's.
"""

import time

import grpc
import numpy as np
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import service_pb2 as pb

from client_support import expect
from grpc_support import refusal, tensor

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


@check("the index is that of REST, all of it and what is ready")
def index(host):
    for ready in (False, True):
        request = pb.RepositoryIndexRequest(ready=ready)
        answer = pb.RepositoryIndexResponse.FromString(host.call("RepositoryIndex", request.SerializeToString()))
        found = [(one.name, one.version, one.state, one.reason) for one in answer.models]
        rest = host.post("/v2/repository/index", {"ready": ready})
        expect(found == [(one["name"], one["version"], one["state"], one["reason"]) for one in rest], f"got {found}")
    expect(len(host.client.get_model_repository_index().models) == len(rest), "tritonclient sees another index")
    error = refusal(lambda: host.call("RepositoryIndex", pb.RepositoryIndexRequest(repository_name="r").SerializeToString()))
    expect(error.code() == CODE.UNIMPLEMENTED, f"got {error}")


@check("a model is unloaded and loaded again, as tritonclient asks for it")
def load_and_unload(host):
    host.client.unload_model("vector_fp32")
    expect(not host.client.is_model_ready("vector_fp32"), "it is ready still")
    states = {one["name"]: one["state"] for one in host.post("/v2/repository/index")}
    expect(states["vector_fp32"] in ("UNLOADING", "UNAVAILABLE"), f"got {states}")
    request = pb.ModelInferRequest(model_name="vector_fp32")
    error = refusal(lambda: host.call("ModelInfer", request.SerializeToString()))
    expect(error.code() == CODE.UNAVAILABLE, f"got {error}")
    host.client.load_model("vector_fp32")
    expect(host.client.is_model_ready("vector_fp32"), "it is not ready")


@check("a model is unloaded and loaded again, as clients of KServe ask for it")
def kserve_form(host):
    # Their messages: the model's name is field 1, in the answer too, and field 2 says that it was done.
    name = b"vector_fp32"
    message = bytes([10, len(name)]) + name
    for method, ready in (("RepositoryModelUnload", False), ("RepositoryModelLoad", True)):
        answer = host.call(method, message)
        expect(answer == message + b"\x10\x01", f"{method}: got {answer!r}")
        expect(host.client.is_model_ready("vector_fp32") == ready, f"{method}: it is not as it was asked for")


@check("loads that cannot be")
def wrong_loads(host):
    for request, code in (
        (pb.RepositoryModelLoadRequest(model_name="nobody"), CODE.NOT_FOUND),
        (pb.RepositoryModelLoadRequest(), CODE.NOT_FOUND),
        (pb.RepositoryModelLoadRequest(repository_name="r", model_name="tiny"), CODE.UNIMPLEMENTED),
        (pb.RepositoryModelLoadRequest(model_name="tiny@1"), CODE.INVALID_ARGUMENT),
    ):
        error = refusal(lambda: host.call("RepositoryModelLoad", request.SerializeToString()))
        expect(error.code() == code, f"{request}: {error}")
    request = pb.RepositoryModelLoadRequest(model_name="tiny")
    request.parameters["config"].string_param = "{}"
    error = refusal(lambda: host.call("RepositoryModelLoad", request.SerializeToString()))
    expect(error.code() == CODE.UNIMPLEMENTED, f"got {error}")


@check("statistics count requests, items and runs")
def statistics(host):
    def numbers():
        (found,) = host.client.get_inference_statistics("tiny", "1").model_stats
        return found

    before = numbers()
    for _ in range(5):
        host.client.infer("tiny", [tensor("x", "FP32", np.zeros((3, 16), np.float32))])
    after = numbers()
    expect((after.name, after.version) == ("tiny", "1"), f"got {after}")
    expect(after.inference_stats.success.count - before.inference_stats.success.count == 5, f"got {after}")
    expect(after.inference_count - before.inference_count == 15, f"got {after}")
    expect(1 <= after.execution_count - before.execution_count <= 5, f"got {after}")
    expect(after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns, f"got {after}")
    expect(after.inference_stats.success.ns >= after.inference_stats.queue.ns, f"got {after}")
    runs = sum(batch.compute_infer.count for batch in after.batch_stats)
    expect(runs == after.execution_count, f"got {after.batch_stats}")
    expect(abs(time.time() * 1000 - after.last_inference) < 600_000, f"got {after.last_inference}")
    every = host.client.get_inference_statistics().model_stats
    expect(len(every) == len(host.post("/v2/repository/index", {"ready": True})), f"{len(every)} models")
    error = refusal(lambda: host.call("ModelStatistics", pb.ModelStatisticsRequest(name="nobody").SerializeToString()))
    expect(error.code() == CODE.NOT_FOUND, f"got {error}")


def described(host, version):
    """A pool with everything that reflection tells, and the names of the services."""
    if version == "v1alpha":
        database = ProtoReflectionDescriptorDatabase(host.channel)
        return DescriptorPool(database), database.get_services()
    # The messages of v1 are those of v1alpha.
    call = host.channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.GRPCInferenceService"),
        reflection_pb2.ServerReflectionRequest(file_by_filename="model_config.proto"),
    ]
    services, *files = call(iter(requests), timeout=30)
    pool = DescriptorPool()
    known = {}
    for answer in files:
        for encoded in answer.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(encoded)
            known[file.name] = file
    for name in ("model_config.proto", "grpc_service.proto"):
        pool.Add(known[name])
    return pool, [one.name for one in services.list_services_response.service]


@check("a client that knows nothing finds the services by reflection and calls them")
def reflection(host):
    for version in ("v1", "v1alpha"):
        pool, services = described(host, version)
        for service in ("inference.GRPCInferenceService", "grpc.health.v1.Health"):
            expect(service in services, f"{version}: services are {services}")
        service = pool.FindServiceByName("inference.GRPCInferenceService")
        expect(len(service.methods) == 20, f"{version}: {len(service.methods)} methods")
        method = service.FindMethodByName("ModelMetadata")
        question = message_factory.GetMessageClass(method.input_type)(name="tiny")
        answer = message_factory.GetMessageClass(method.output_type)()
        answer.ParseFromString(host.call("ModelMetadata", question.SerializeToString()))
        expect(answer.name == "tiny" and answer.inputs[0].shape == [-1, 16], f"{version}: got {answer}")


@check("every message has the numbers that clients are compiled against")
def same_numbers(host):
    pool, _ = described(host, "v1")
    ours = pool.FindFileByName("grpc_service.proto")

    def compare(theirs, mine):
        for field in theirs.fields:
            found = mine.fields_by_name[field.name]
            expect((found.number, found.type) == (field.number, field.type), f"{theirs.full_name}.{field.name}")
            expect(found.is_repeated == field.is_repeated, f"{theirs.full_name}.{field.name}")
        for nested in theirs.nested_types:
            compare(nested, mine.nested_types_by_name[nested.name])

    for name, message in pb.DESCRIPTOR.message_types_by_name.items():
        compare(message, ours.message_types_by_name[name])
    theirs, mine = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"], ours.services_by_name["GRPCInferenceService"]
    expect([one.name for one in theirs.methods] == [one.name for one in mine.methods], "methods differ")


@check("gRPC's own health service answers, and watches")
def health(host):
    # A status of 1 is SERVING, 3 is SERVICE_UNKNOWN; the name of the service is field 1 of a request.
    service = b"inference.GRPCInferenceService"
    for message in (b"", bytes([10, len(service)]) + service):
        expect(host.call("/grpc.health.v1.Health/Check", message) == b"\x08\x01", "not serving")
    error = refusal(lambda: host.call("/grpc.health.v1.Health/Check", b"\x0a\x01x"))
    expect(error.code() == CODE.NOT_FOUND, f"got {error}")
    for message, expected in ((b"", b"\x08\x01"), (b"\x0a\x01x", b"\x08\x03")):
        watch = host.channel.unary_stream("/grpc.health.v1.Health/Watch", lambda sent: sent, lambda came: came)
        watching = watch(message, timeout=30)
        expect(next(watching) == expected, f"{message!r}")
        watching.cancel()
