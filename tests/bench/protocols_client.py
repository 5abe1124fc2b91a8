"""One client of one form: python protocols_client.py PORT FORM MODEL SHAPE SECONDS.

Prints how many requests were answered, and the median wait, as JSON. Messages are made once: what is measured is
the way to the host and back, and what the host does.
"""

import json
import math
import queue
import random
import socket
import struct
import sys
import time

WARMUP = 50


def values_of(shape):
    """Floats that take several digits in JSON, the same in every form."""
    draw = random.Random(7)
    return [struct.unpack("<f", struct.pack("<f", draw.gauss(0, 1)))[0] for _ in range(math.prod(shape))]


class Http:
    """HTTP/1.1 by hand, on one connection."""

    def __init__(self, port, model, shape, binary):
        values = values_of(shape)
        spec = {"name": "x", "datatype": "FP32", "shape": shape}
        if binary:
            blob = struct.pack(f"<{len(values)}f", *values)
            spec["parameters"] = {"binary_data_size": len(blob)}
            head = json.dumps({"parameters": {"binary_data_output": True}, "inputs": [spec]}).encode()
            extra = f"inference-header-content-length: {len(head)}\r\n"
        else:
            spec["data"] = values
            head, blob, extra = json.dumps({"inputs": [spec]}).encode(), b"", ""
        length = len(head) + len(blob)
        first = f"POST /v2/models/{model}/infer HTTP/1.1\r\nhost: h\r\n{extra}content-length: {length}\r\n\r\n"
        self.message = first.encode() + head + blob
        self.bytes = length
        self.stream = socket.create_connection(("127.0.0.1", port))
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self):
        self.stream.sendall(self.message)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.stream.recv(1 << 18)
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        if b" 200 " not in lines[0]:
            raise SystemExit(f"the host answers {lines[0]}")
        left = int(next(line.split(b":")[1] for line in lines if line.startswith(b"content-length"))) - len(body)
        while left > 0:
            left -= len(self.stream.recv(min(left, 1 << 18)))


class Grpc:
    """grpcio, with messages as bytes."""

    def __init__(self, port, model, shape, form):
        import grpc
        from tritonclient.grpc import service_pb2 as pb

        values = values_of(shape)
        request = pb.ModelInferRequest(model_name=model)
        spec = request.inputs.add(name="x", datatype="FP32", shape=shape)
        if form == "gRPC typed":
            spec.contents.fp32_contents.extend(values)
        else:
            request.raw_input_contents.append(struct.pack(f"<{len(values)}f", *values))
        self.message = request.SerializeToString()
        self.bytes = len(self.message)
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)
        service, plain = "/inference.GRPCInferenceService/", lambda message: message
        if form == "gRPC stream":
            self.waiting = queue.SimpleQueue()
            call = self.channel.stream_stream(f"{service}ModelStreamInfer", plain, plain)
            self.answers = call(iter(self.waiting.get, None))
            self.ask = self.ask_stream
        else:
            self.call = self.channel.unary_unary(f"{service}ModelInfer", plain, plain)

    def ask(self):
        self.call(self.message)

    def ask_stream(self):
        self.waiting.put(self.message)
        next(self.answers)


def main():
    port, form, model, shape, seconds = sys.argv[1:]
    shape = json.loads(shape)
    http = form.startswith("HTTP")
    client = Http(int(port), model, shape, form == "HTTP binary") if http else Grpc(int(port), model, shape, form)
    for _ in range(WARMUP):
        client.ask()
    waits = []
    end = time.perf_counter() + float(seconds)
    while (started := time.perf_counter()) < end:
        client.ask()
        waits.append(time.perf_counter() - started)
    waits.sort()
    print(json.dumps({"requests": len(waits), "p50_us": waits[len(waits) // 2] * 1e6, "bytes": client.bytes}))


if __name__ == "__main__":
    main()
