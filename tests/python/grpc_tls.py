#!/usr/bin/env python3
"""tritonclient[grpc] and grpcio over TLS with certificates of clients: who is answered, and with what.

    python grpc_tls.py localhost:8081 tests/fixtures/tls

The host takes certificates of `ca.pem` alone, and lets `client` ask the models identity_*. Ends with `ok`, or with the
failed expectation.
"""

import pathlib
import queue
import sys

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from client_support import expect
from grpc_support import tensor

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


class Pairs:
    """The files of the tests' certificates."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def client(self, address, name, authority="ca"):
        """A client that shows the pair `name`, or nothing."""
        path = lambda file: str(self.folder / file)
        shown = {"certificate_chain": path(f"{name}.pem"), "private_key": path(f"{name}.key")} if name else {}
        return triton.InferenceServerClient(
            address, ssl=True, root_certificates=path(f"{authority}.pem"), **shown
        )


def infer(client, model="identity_fp32"):
    """One request."""
    result = client.infer(model, [tensor("x", "FP32", VALUES)], client_timeout=30)
    expect(result.as_numpy("y").tolist() == VALUES.tolist(), f"got {result.as_numpy('y')}")


def refusal(call):
    """The status that a call is refused with."""
    try:
        call()
    except InferenceServerException as error:
        return error.status()
    raise AssertionError("the call was answered")


def known(client):
    """The one who is known may do what its scope says, in every way of asking."""
    expect(client.is_server_live(), "not live")
    infer(client)
    answers = queue.Queue()
    for _ in range(8):
        client.async_infer("identity_fp32", [tensor("x", "FP32", VALUES)], lambda result, error: answers.put((result, error)))
    client.start_stream(lambda result, error: answers.put((result, error)))
    for _ in range(8):
        client.async_stream_infer("identity_fp32", [tensor("x", "FP32", VALUES)])
    for _ in range(16):
        result, error = answers.get(timeout=60)
        expect(error is None, f"got {error}")
        expect(result.as_numpy("y").tolist() == VALUES.tolist(), f"got {result.as_numpy('y')}")
    client.stop_stream()
    status = refusal(lambda: infer(client, "vector_fp32"))
    expect(status == "StatusCode.PERMISSION_DENIED", f"a model outside the scope: {status}")


def main(address, folder):
    pairs = Pairs(folder)
    known(pairs.client(address, "client"))
    for name in (None, "client-expired", "client-other"):
        status = refusal(lambda: infer(pairs.client(address, name)))
        expect(status == "StatusCode.UNAVAILABLE", f"{name}: {status}")
    status = refusal(lambda: infer(pairs.client(address, "client", "other-ca")))
    expect(status == "StatusCode.UNAVAILABLE", f"a host of an authority that is not trusted: {status}")
    status = refusal(lambda: infer(pairs.client(address, "client-revoked")))
    expect(status == "StatusCode.UNAUTHENTICATED", f"a good certificate of nobody who is named: {status}")
    plain = grpc.insecure_channel(address).unary_unary("/inference.GRPCInferenceService/ServerLive", lambda x: x, lambda x: x)
    try:
        plain(b"", timeout=30)
        raise AssertionError("a plain call was answered")
    except grpc.RpcError as error:
        expect(error.code() == grpc.StatusCode.UNAVAILABLE, f"without TLS: {error}")
    print("ok")


if __name__ == "__main__":
    main(*sys.argv[1:])
