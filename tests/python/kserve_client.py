#!/usr/bin/env python3
"""Checks a running host with the clients of KServe's SDK: REST by version 2 and version 1 of the protocol, and gRPC.

    python kserve_client.py http://127.0.0.1:8080 127.0.0.1:8080

The host has to serve `tiny` and `echo_bytes` of tests/fixtures/models. Prints a line for each part and ends with `ok`,
or with the failed expectation.
"""

import asyncio
import sys

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

ROWS = np.arange(32, dtype=np.float32).reshape(2, 16)
EXPECTED = ROWS @ (np.outer(np.arange(1, 17), np.arange(1, 5)) / 64).astype(np.float32)


def rows(binary):
    """A request for `tiny`, with raw bytes or with a list of numbers."""
    made = InferInput("x", list(ROWS.shape), "FP32")
    made.set_data_from_numpy(ROWS, binary_data=binary)
    return InferRequest(model_name="tiny", infer_inputs=[made], request_id="one")


def judge(answer):
    """Holds an answer of `tiny` against what it computes."""
    assert (answer.model_name, answer.id) == ("tiny", "one"), answer
    assert np.allclose(answer.outputs[0].as_numpy(), EXPECTED, rtol=1e-5), answer.outputs[0].as_numpy()


async def version_2(url):
    """Health, readiness, and infer as JSON and as binary."""
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=60))
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "tiny")
    for binary in (False, True):
        judge(await client.infer(url, rows(binary), model_name="tiny"))
    await client.close()
    print("rest, version 2")


async def version_1(url):
    """Readiness, and rows."""
    client = InferenceRESTClient(RESTConfig(protocol="v1", timeout=60))
    assert await client.is_model_ready(url, "tiny")
    answer = await client.infer(url, {"instances": ROWS.tolist()}, model_name="tiny")
    assert np.allclose(np.array(answer["predictions"]), EXPECTED, rtol=1e-5), answer
    await client.close()
    print("rest, version 1")


async def infer_grpc(address):
    """Health, readiness, infer with typed and raw contents, BYTES, and a refusal."""
    client = InferenceGRPCClient(address, timeout=60)
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("tiny")
    for binary in (False, True):
        judge(await client.infer(rows(binary)))
    text = np.array(["a", "ß", "🙂"], object)
    made = InferInput("text", [3], "BYTES")
    made.set_data_from_numpy(text, binary_data=True)
    answer = await client.infer(InferRequest(model_name="echo_bytes", infer_inputs=[made]))
    found = [one if isinstance(one, str) else one.decode() for one in answer.outputs[0].as_numpy().reshape(-1)]
    assert found == text.tolist(), found
    try:
        await client.infer(InferRequest(model_name="nobody", infer_inputs=[made]))
        raise AssertionError("an unknown model was answered")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND, error
    await client.close()
    print("grpc")


async def repository(address):
    """Metadata, load and unload, by the SDK's own stub: its client has no words for them."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        server = await stub.ServerMetadata(pb.ServerMetadataRequest())
        assert server.name == "nuke" and "model_repository" in server.extensions, server
        model = await stub.ModelMetadata(pb.ModelMetadataRequest(name="tiny"))
        assert [(one.name, one.datatype) for one in model.inputs] == [("x", "FP32")], model
        gone = await stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="tiny"))
        assert gone.model_name == "tiny" and gone.isUnloaded, gone
        assert not (await stub.ModelReady(pb.ModelReadyRequest(name="tiny"))).ready
        back = await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="tiny"))
        assert back.model_name == "tiny" and back.isLoaded, back
        assert (await stub.ModelReady(pb.ModelReadyRequest(name="tiny"))).ready
    print("grpc, the repository")


async def main(url, address):
    await version_2(url)
    await version_1(url)
    await infer_grpc(address)
    await repository(address)
    print("ok")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
