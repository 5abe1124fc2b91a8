"""Checks of the protocol's extensions with tritonclient[http]: statistics, the repository, compression both ways,
classification, priorities, the log, and version 1.

Owns nothing but the checks; `client_conformance.py` runs them.
"""

import gzip
import json
import zlib

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from client_support import expect, same

ROWS = np.arange(64, dtype=np.float32).reshape(4, 16)


def tiny(values=ROWS, binary=True):
    """The input of `tiny`."""
    made = triton.InferInput("x", list(values.shape), "FP32")
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def plain(size=64):
    """A request for `identity_fp32` in JSON, of so many elements."""
    values = list(range(size))
    return json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, size], "data": values}]}).encode()


def refused(call, status, words):
    """Expects an error of this status that says all of `words`."""
    try:
        call()
    except InferenceServerException as error:
        expect(error.status() == str(status), f"status is {error.status()}: {error}")
        for word in words:
            expect(word in str(error), f"{word!r} is not in {error}")
    else:
        raise AssertionError("it was not refused")


def stats_of(client, model, version=""):
    """The only entry of a model's statistics."""
    (entry,) = client.get_inference_statistics(model, version)["model_stats"]
    return entry


def register(checks):
    """Adds all checks."""
    statistics(checks)
    repository(checks)
    compression(checks)
    classification(checks)
    others(checks)


def statistics(checks):
    """What versions have done."""

    @checks.check("statistics count requests, items and runs")
    def counts(client, raw):
        before = stats_of(client, "tiny", "1")
        for _ in range(3):
            client.infer("tiny", [tiny()])
        after = stats_of(client, "tiny")
        expect(after["inference_count"] - before["inference_count"] == 12, f"{before} {after}")
        expect(after["execution_count"] - before["execution_count"] == 3, f"{before} {after}")
        for part in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
            old, new = before["inference_stats"][part], after["inference_stats"][part]
            expect(new["count"] - old["count"] == 3, f"{part}: {old} {new}")
            expect(new["ns"] >= old["ns"], f"{part}: {old} {new}")
        sizes = [entry["batch_size"] for entry in after["batch_stats"]]
        expect(4 in sizes and sizes == sorted(sizes), f"batch sizes are {sizes}")
        expect(after["last_inference"] > before["last_inference"] - 1 > 0 or before["last_inference"] == 0, f"{after}")

    @checks.check("statistics of all models")
    def everything(client, raw):
        names = [entry["name"] for entry in client.get_inference_statistics()["model_stats"]]
        expect("tiny" in names and "all_types" in names, f"got {names}")

    @checks.check("statistics of an unknown model are refused")
    def unknown(client, raw):
        refused(lambda: client.get_inference_statistics("nobody"), 404, ["Request for unknown model"])


def repository(checks):
    """The index, loading and unloading."""

    @checks.check("the index lists every version and its state")
    def index(client, raw):
        entries = {entry["name"]: entry for entry in client.get_model_repository_index()}
        expect(entries["tiny"]["state"] == "READY" and entries["tiny"]["version"] == "1", f"got {entries['tiny']}")

    @checks.check("a model goes and comes back, and counts on")
    def unload_and_load(client, raw):
        client.infer("vector_fp32", vector())
        client.unload_model("vector_fp32", unload_dependents=True)
        expect(not client.is_model_ready("vector_fp32"), "it is still ready")
        refused(lambda: client.infer("vector_fp32", vector()), 503, ["vector_fp32"])
        client.load_model("vector_fp32")
        expect(client.is_model_ready("vector_fp32"), "it is not ready")
        client.infer("vector_fp32", vector())

    @checks.check("a load with a configuration or files is refused by name")
    def load_with_files(client, raw):
        refused(lambda: client.load_model("tiny", config='{"max_batch_size": 8}'), 501, ["'config'", "models folder"])
        files = {"file:1/model.onnx": b"x"}
        refused(lambda: client.load_model("tiny", config="{}", files=files), 501, ["models folder"])
        expect(client.is_model_ready("tiny"), "tiny is not ready any more")

    @checks.check("loading and unloading an unknown model is refused")
    def unknown(client, raw):
        refused(lambda: client.load_model("nobody"), 404, ["failed to load 'nobody'"])
        refused(lambda: client.unload_model("nobody"), 404, ["nobody"])


def vector():
    """The input of `vector_fp32`."""
    made = triton.InferInput("x", [2], "FP32")
    made.set_data_from_numpy(np.ones(2, np.float32))
    return [made]


def compression(checks):
    """Bodies that are compressed, both ways."""

    for request in (None, "gzip", "deflate"):
        for response in (None, "gzip", "deflate"):
            add_compression_check(checks, request, response)

    @checks.check("an answer is compressed if it is long enough and the client asks")
    def negotiated(client, raw):
        for header, size, expected in (
            ("gzip", 4000, "gzip"),
            ("deflate;q=0.5, gzip;q=0.4", 4000, "deflate"),
            ("br, gzip", 4000, "gzip"),
            ("gzip;q=0", 4000, None),
            ("br", 4000, None),
            ("gzip", 10, None),
        ):
            status, headers, body = raw.infer("identity_fp32", plain(size), {"Accept-Encoding": header})
            expect(status == 200, f"status {status}: {body[:200]!r}")
            expect(headers["Content-Encoding"] == expected, f"{header}: got {headers['Content-Encoding']}")
            if expected:
                expect("accept-encoding" in headers["Vary"].lower(), f"Vary is {headers['Vary']}")
                text = gzip.decompress(body) if expected == "gzip" else zlib.decompress(body)
                expect(len(json.loads(text)["outputs"][0]["data"]) == size, "the answer is another")

    @checks.check("raw deflate, many members and a body for /predict")
    def forms(client, raw):
        raw_deflate = zlib.compressobj(wbits=-15)
        body = plain()
        members = gzip.compress(body[:100]) + gzip.compress(body[100:])
        for encoding, packed in (
            ("deflate", raw_deflate.compress(body) + raw_deflate.flush()),
            ("gzip", members),
            ("x-gzip", gzip.compress(body)),
        ):
            for path in ("/v2/models/identity_fp32/infer", "/predict/identity_fp32"):
                status, _, answer = raw.request("POST", path, packed, {"Content-Encoding": encoding})
                expect(status == 200, f"{encoding} {path}: {status} {answer[:200]!r}")

    @checks.check("a bomb is refused before it goes off")
    def bombs(client, raw):
        layer = gzip.compress(bytes(16 << 20), 9)
        for encoding, packed in (
            ("gzip", gzip.compress(bytes(200 << 20), 9)),
            ("gzip", layer * 20),
            ("deflate", zlib.compress(bytes(200 << 20), 9)),
        ):
            status, _, body = raw.infer("identity_fp32", packed, {"Content-Encoding": encoding})
            expect(status == 413, f"{encoding}: {status} {body[:200]!r}")
            expect(b"inflates" in body, f"got {body[:200]!r}")

    @checks.check("a compressed body that is cut off or damaged is refused")
    def damaged(client, raw):
        packed = gzip.compress(plain())
        changed = bytearray(packed)
        changed[-5] ^= 1
        for body in (packed[:-1], packed[: len(packed) // 2], bytes(changed), packed + b"more", b""):
            status, _, answer = raw.infer("identity_fp32", body, {"Content-Encoding": "gzip"})
            expect(status == 400, f"{len(body)} bytes: {status} {answer[:200]!r}")
        status, _, answer = raw.infer("identity_fp32", packed, {"Content-Encoding": "gzip, gzip"})
        expect(status == 415, f"{status} {answer[:200]!r}")


def add_compression_check(checks, request, response):
    """Infers with a request and an answer in these codings."""

    def run(client, raw):
        values = np.tile(np.arange(500, dtype=np.float32), (4, 2))
        made = triton.InferInput("x", list(values.shape), "FP32")
        for binary in (True, False):
            made.set_data_from_numpy(values, binary_data=binary)
            result = client.infer(
                "identity_fp32",
                [made],
                outputs=[triton.InferRequestedOutput("y", binary_data=binary)],
                request_compression_algorithm=request,
                response_compression_algorithm=response,
            )
            expect(same(values, result.as_numpy("y")), f"binary {binary}: another tensor came back")

    checks.add(f"request {request or 'plain'}, answer {response or 'plain'}", run)


def classification(checks):
    """The greatest elements of an output."""

    @checks.check("classification gives value and place of the greatest, row by row")
    def greatest(client, raw):
        expected = client.infer("tiny", [tiny()]).as_numpy("y")
        for binary in (True, False):
            output = triton.InferRequestedOutput("y", binary_data=binary, class_count=2)
            result = client.infer("tiny", [tiny()], outputs=[output])
            found = result.as_numpy("y")
            expect(result.get_output("y")["datatype"] == "BYTES", f"got {result.get_output('y')}")
            expect(found.shape == (4, 2), f"shape is {found.shape}")
            for row, numbers in zip(found, expected):
                order = np.argsort(-numbers, kind="stable")[:2]
                wanted = [f"{numbers[at]:.6f}:{at}" for at in order]
                texts = [text if isinstance(text, str) else text.decode() for text in row]
                expect(texts == wanted, f"got {texts}, expected {wanted}")

    @checks.check("a class count beyond the elements gives all, and none gives the tensor")
    def all_of_them(client, raw):
        output = triton.InferRequestedOutput("y", class_count=1000)
        expect(client.infer("tiny", [tiny()], outputs=[output]).as_numpy("y").shape == (4, 4), "not all came")
        output = triton.InferRequestedOutput("y", class_count=0)
        expect(client.infer("tiny", [tiny()], outputs=[output]).as_numpy("y").dtype == np.float32, "no tensor came")

    @checks.check("classification of BYTES is refused by name")
    def of_bytes(client, raw):
        made = triton.InferInput("text", [1], "BYTES")
        made.set_data_from_numpy(np.array(["a"], object))
        output = triton.InferRequestedOutput("echo", class_count=1)
        refused(lambda: client.infer("echo_bytes", [made], outputs=[output]), 501, ["'echo'", "BYTES"])


def others(checks):
    """Priorities, asynchronous requests, the log, and version 1."""

    @checks.check("priority and timeout are taken, and a timeout that is over is told")
    def schedule(client, raw):
        client.infer("tiny", [tiny()], priority=2, timeout=5_000_000)
        slow = triton.InferInput("n", [1], "INT64")
        slow.set_data_from_numpy(np.array([3000], np.int64))
        refused(lambda: client.infer("slow", [slow], timeout=20_000), 504, ["time ran out"])

    @checks.check("asynchronous requests of several models")
    def asynchronous(client, raw):
        pending = [client.async_infer("tiny", [tiny(ROWS * number)]) for number in range(16)]
        single = client.infer("tiny", [tiny()]).as_numpy("y")
        for number, request in enumerate(pending):
            expect(np.allclose(request.get_result().as_numpy("y"), single * number, rtol=1e-5), f"request {number}")

    @checks.check("the log's settings are told and changed")
    def log(client, raw):
        before = client.get_log_settings()
        expect(before["log_info"] is True and before["log_verbose_level"] == 0, f"got {before}")
        try:
            changed = client.update_log_settings({"log_verbose_level": 1})
            expect(changed["log_verbose_level"] == 1, f"got {changed}")
            refused(lambda: client.update_log_settings({"log_file": "/tmp/x"}), 501, ["log_file"])
        finally:
            client.update_log_settings({"log_verbose_level": 0})
        expect(client.get_log_settings() == before, "the log is not as it was")

    @checks.check("only what is served is advertised, and all of it")
    def advertised(client, raw):
        extensions = client.get_server_metadata()["extensions"]
        expected = {
            "binary_tensor_data",
            "classification",
            "logging",
            "model_configuration",
            "model_repository",
            "parameters",
            "schedule_policy",
            "statistics",
        }
        expect(set(extensions) == expected, f"extensions are {extensions}")

    @checks.check("version 1 gives what version 2 gives")
    def version_1(client, raw):
        expected = client.infer("tiny", [tiny()]).as_numpy("y")
        status, _, body = raw.request("POST", "/v1/models/tiny:predict", {"instances": ROWS.tolist()})
        expect(status == 200, f"status {status}: {body[:200]!r}")
        found = np.array(json.loads(body)["predictions"], np.float32)
        expect(same(expected, found), f"got {found}, expected {expected}")
