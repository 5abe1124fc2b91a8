"""The errors that the protocol documents: each with its status and a message that names what is wrong."""

import json

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from client_support import expect

ONES = [[1.0, 1.0, 1.0, 1.0]]


def part(name, **more):
    """An input for `two_inputs`, right unless `more` says otherwise; None leaves a key out."""
    fields = {"name": name, "datatype": "FP32", "shape": [1, 4], "data": ONES} | more
    return {key: value for key, value in fields.items() if value is not None}


def request(*inputs, **more):
    """A request's body; without inputs, the right ones."""
    return {"inputs": list(inputs) or [part("A"), part("B")]} | more


def binary(size, name="A"):
    """An input whose data is to follow the JSON."""
    return part(name, data=None, parameters={"binary_data_size": size})


def refused(raw, model, body, names, status=400, headers=None):
    """Sends what must be refused, and looks for `names` in the message."""
    found, answer_headers, answer = raw.infer(model, body, headers)
    expect_error(found, answer_headers, answer, names, status)


def expect_error(found, headers, answer, names, status):
    expect(found == status, f"status {found}, expected {status}: {answer[:300]!r}")
    expect(headers["Content-Type"].startswith("application/json"), f"Content-Type is {headers['Content-Type']}")
    message = json.loads(answer)["error"]
    for name in names:
        expect(name in message, f"'{name}' is not in '{message}'")


# Name of the check; model; body; what the message has to name.
JSON_CASES = [
    ("a missing input", "two_inputs", request(part("A")), ["B"]),
    ("no inputs", "two_inputs", {"inputs": []}, ["A"]),
    ("an unexpected input", "two_inputs", request(part("A"), part("B"), part("surplus")), ["surplus"]),
    ("an input given twice", "two_inputs", request(part("A"), part("A"), part("B")), ["A"]),
    ("an unknown output", "two_inputs", request(outputs=[{"name": "PRODUCT"}]), ["PRODUCT"]),
    ("a wrong datatype", "two_inputs", request(part("A", datatype="INT32", data=[1, 1, 1, 1]), part("B")), ["A", "INT32", "FP32"]),
    ("an unknown datatype", "two_inputs", request(part("A", datatype="FP31"), part("B")), ["FP31"]),
    ("a wrong fixed dimension", "two_inputs", request(part("A", shape=[1, 5], data=[1] * 5), part("B")), ["A", "5", "4"]),
    ("too few dimensions", "two_inputs", request(part("A", shape=[4], data=[1] * 4), part("B")), ["A"]),
    ("too many dimensions", "two_inputs", request(part("A", shape=[1, 1, 4]), part("B")), ["A"]),
    ("a negative dimension", "two_inputs", request(part("A", shape=[-1, 4]), part("B")), ["-1"]),
    ("a dimension that is no number", "two_inputs", request(part("A", shape=["1", 4]), part("B")), ["shape"]),
    ("a shape that overflows", "two_inputs", request(part("A", shape=[2**62, 2**62]), part("B")), ["A"]),
    ("a shape beyond 64 bits", "two_inputs", request(part("A", shape=[2**70, 4]), part("B")), ["shape"]),
    ("fewer elements than the shape", "two_inputs", request(part("A", data=[1, 1, 1]), part("B")), ["A", "3", "4"]),
    ("more elements than the shape", "two_inputs", request(part("A", data=[1] * 5), part("B")), ["A"]),
    ("ragged data", "two_inputs", request(part("A", shape=[2, 4], data=[[1] * 4, [1] * 3]), part("B")), ["A"]),
    ("text where a number belongs", "two_inputs", request(part("A", data=[1, "2", 3, 4]), part("B")), ["A"]),
    ("null where a number belongs", "two_inputs", request(part("A", data=[1, None, 3, 4]), part("B")), ["A"]),
    ("NaN in JSON", "two_inputs", request(part("A", data=[1, float("nan"), 3, 4]), part("B")), ["A"]),
    ("neither data nor binary_data_size", "two_inputs", request(part("A", data=None), part("B")), ["A", "data"]),
    ("an input without a name", "two_inputs", request({"datatype": "FP32", "shape": [1, 4], "data": ONES}), ["name"]),
    ("an input without a datatype", "two_inputs", request(part("A", datatype=None), part("B")), ["datatype"]),
    ("an input without a shape", "two_inputs", request(part("A", shape=None), part("B")), ["shape"]),
    ("a request without inputs", "two_inputs", {"id": "1"}, ["inputs"]),
    ("a body that is no object", "two_inputs", [1, 2], []),
    ("a body that is no JSON", "two_inputs", '{"inputs": [', []),
    ("a body that is not UTF-8", "two_inputs", b'{"inputs": "\xff"}', []),
    ("text after the JSON", "two_inputs", json.dumps(request()) + " x", []),
    ("an empty body", "two_inputs", b"", []),
    ("brackets without end", "two_inputs", b"[" * 100000, []),
    ("data nested without end", "two_inputs", b'{"inputs":[{"name":"A","datatype":"FP32","shape":[1,4],"data":' + b"[" * 100000, []),
]

# Name; datatype; one element in JSON that does not fit it.
MISFITS = [
    ("UINT8", 256),
    ("UINT8", -1),
    ("INT8", -129),
    ("INT16", 32768),
    ("UINT32", 2**32),
    ("INT64", 2**63),
    ("UINT64", 2**64),
    ("UINT64", -1),
    ("INT32", 1.5),
    ("INT32", True),
    ("BOOL", 1),
    ("BOOL", "true"),
    ("FP32", 1e39),
    ("FP64", "1"),
    ("BYTES", 7),
    ("FP16", 1),
    ("BF16", 1),
]

# Name; body; headers' JSON length (None for the right one); what the message has to name.
BINARY_CASES = [
    ("fewer bytes than the shape takes", request(binary(12), part("B")), b"\0" * 12, None, ["A", "12", "16"]),
    ("more bytes than the shape takes", request(binary(20), part("B")), b"\0" * 20, None, ["A", "20", "16"]),
    ("a blob cut short", request(binary(16), part("B")), b"\0" * 15, None, ["A", "16", "15"]),
    ("bytes left over", request(binary(16), part("B")), b"\0" * 17, None, ["1"]),
    ("data and binary_data_size", request(part("A", parameters={"binary_data_size": 16}), part("B")), b"\0" * 16, None, ["A"]),
    ("a negative binary_data_size", request(binary(-1), part("B")), b"", None, ["binary_data_size"]),
    ("a binary_data_size that is text", request(binary("16"), part("B")), b"\0" * 16, None, ["binary_data_size"]),
    ("a JSON length beyond the body", request(binary(16), part("B")), b"\0" * 16, "100000", ["100000"]),
    ("a negative JSON length", request(), b"", "-1", ["-1"]),
    ("a JSON length that is no number", request(), b"", "many", ["many"]),
    ("a JSON length of zero with two inputs", request(), b"", "0", []),
]


def add_triton_checks(checks):
    """Errors as the client reports them: the status in brackets, the message as it came."""

    def expect_refusal(call, status, *names):
        try:
            call()
        except InferenceServerException as error:
            expect(error.status() == str(status), f"status {error.status()}, expected {status}: {error.message()}")
            for name in names:
                expect(name in error.message(), f"'{name}' is not in '{error.message()}'")
            return
        raise AssertionError("it was answered")

    def one(name="x", shape=(1, 16), datatype="FP32", values=None):
        made = triton.InferInput(name, list(shape), datatype)
        made.set_data_from_numpy(np.ones(shape, np.float32) if values is None else values)
        return [made]

    @checks.check("404 for an unknown model, which is named")
    def unknown_model(client, raw):
        expect_refusal(lambda: client.infer("no-such-model", one()), 404, "no-such-model")
        expect_refusal(lambda: client.get_model_metadata("no-such-model"), 404, "no-such-model")
        expect_refusal(lambda: client.get_model_config("no-such-model"), 404, "no-such-model")

    @checks.check("404 for an unknown version, which is named with its model")
    def unknown_version(client, raw):
        expect_refusal(lambda: client.infer("tiny", one(), model_version="77"), 404, "tiny", "77")
        expect_refusal(lambda: client.get_model_metadata("tiny", "77"), 404, "tiny", "77")

    @checks.check("400 for a wrong datatype, shape, input and output as the client sees it")
    def client_sees(client, raw):
        values = np.ones((1, 16), np.float64)
        expect_refusal(lambda: client.infer("tiny", one(datatype="FP64", values=values)), 400, "x", "FP64", "FP32")
        expect_refusal(lambda: client.infer("tiny", one(shape=(1, 15))), 400, "x", "15", "16")
        expect_refusal(lambda: client.infer("tiny", one(name="unheard")), 400, "unheard")
        wanted = [triton.InferRequestedOutput("unheard")]
        expect_refusal(lambda: client.infer("tiny", one(), outputs=wanted), 400, "unheard")

    @checks.check("a fault in the run is an error, and the model serves on")
    def fails_in_run(client, raw):
        bad = one("index", (1,), "INT64", np.array([9], np.int64))
        try:
            client.infer("gather", bad)
        except InferenceServerException as error:
            expect(error.status() in ("400", "500"), f"status {error.status()}")
        else:
            raise AssertionError("it was answered")
        good = one("index", (1,), "INT64", np.array([3], np.int64))
        expect(client.infer("gather", good).as_numpy("y").tolist() == [9], "the next answer is wrong")


def add_json_checks(checks):
    """Bodies that are wrong in one way each."""
    for name, model, body, names in JSON_CASES:
        checks.add(f"400 for {name}", lambda _, raw, m=model, b=body, n=names: refused(raw, m, b, n))

    @checks.check("501 for shared memory, an extension that is not served")
    def shared_memory(client, raw):
        region = {"shared_memory_region": "r", "shared_memory_byte_size": 16}
        body = request(part("A", data=None, parameters=region), part("B"))
        refused(raw, "two_inputs", body, ["'A'", "shared_memory_region"], status=501)

    def misfit(raw, datatype, value):
        entry = {"name": f"in_{datatype}", "datatype": datatype, "shape": [1, 1], "data": [value]}
        refused(raw, "all_types", {"inputs": [entry]}, [f"in_{datatype}"])

    for datatype, value in MISFITS:
        checks.add(f"400 for {value!r} as {datatype} in JSON", lambda _, raw, d=datatype, v=value: misfit(raw, d, v))

    @checks.check("400 for FP16 or NaN wanted as JSON, naming the output")
    def no_json_form(client, raw):
        values = np.array([[np.nan]], np.float32)
        made = triton.InferInput("x", [1, 1], "FP32")
        made.set_data_from_numpy(values)
        try:
            client.infer("identity_fp32", [made], outputs=[triton.InferRequestedOutput("y", binary_data=False)])
        except InferenceServerException as error:
            expect(error.status() == "400", f"status {error.status()}")
            expect("'y'" in error.message(), f"the output is not in '{error.message()}'")
        else:
            raise AssertionError("NaN came as JSON")


def add_binary_checks(checks):
    """Binary bodies that are wrong in one way each."""

    def send(raw, body, blobs, length, names):
        text = json.dumps(body).encode()
        headers = {"Inference-Header-Content-Length": length or str(len(text))}
        refused(raw, "two_inputs", text + blobs, names, headers=headers)

    for name, body, blobs, length, names in BINARY_CASES:
        checks.add(
            f"400 for {name}", lambda _, raw, b=body, x=blobs, s=length, n=names: send(raw, b, x, s, n)
        )

    @checks.check("400 for binary data without the header that says where they start")
    def no_header(client, raw):
        refused(raw, "two_inputs", request(binary(16), part("B")), ["Inference-Header-Content-Length"])

    @checks.check("400 for BYTES whose lengths do not add up")
    def bytes_lengths(client, raw):
        for blob in (b"\5\0\0\0ab", b"\1\0", b"\xff\xff\xff\xffab", b"\1\0\0\0ab"):
            entry = {"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(blob)}}
            text = json.dumps({"inputs": [entry]}).encode()
            refused(raw, "echo_bytes", text + blob, ["text"], headers={"Inference-Header-Content-Length": str(len(text))})

    @checks.check("400 for a BOOL that is neither 0 nor 1")
    def odd_bool(client, raw):
        entry = {"name": "in_BOOL", "datatype": "BOOL", "shape": [1, 1], "parameters": {"binary_data_size": 1}}
        text = json.dumps({"inputs": [entry]}).encode()
        headers = {"Inference-Header-Content-Length": str(len(text))}
        refused(raw, "all_types", text + b"\2", ["in_BOOL"], headers=headers)

    @checks.check("400 for a raw body that does not fill the input")
    def raw_body(client, raw):
        headers = {"Inference-Header-Content-Length": "0"}
        refused(raw, "vector_fp32", b"\0" * 5, ["x"], headers=headers)
        refused(raw, "fixed", b"\0" * 20, ["x"], headers=headers)


def add_route_checks(checks):
    """Paths and methods that are not served."""

    @checks.check("405 for a wrong method, 404 for an unknown path, both in JSON")
    def routes(client, raw):
        for method, path, status in (
            ("GET", "/v2/models/tiny/infer", 405),
            ("DELETE", "/v2/health/live", 405),
            ("POST", "/v2/models/tiny", 405),
            ("GET", "/v2/no/such/path", 404),
            ("GET", "/elsewhere", 404),
            ("POST", "/v2/models/tiny/versions/1/guess", 404),
        ):
            found, headers, answer = raw.request(method, path)
            expect(found == status, f"{method} {path}: status {found}, expected {status}")
            expect_error(found, headers, answer, [], status)

    @checks.check("404 for a model name that is no name")
    def odd_names(client, raw):
        for name in ("a%2Fb", "%2e%2e", "a%00b", "%ff", "x" * 5000):
            found, headers, answer = raw.infer(name, request())
            expect(found in (400, 404, 414), f"{name[:20]}: status {found}")
            expect_error(found, headers, answer, [], found)

    @checks.check("the connection serves on after an error")
    def serves_on(client, raw):
        refused(raw, "two_inputs", "{", [])
        answer = raw.infer_json("two_inputs", request())
        expect(answer["outputs"][0]["data"] == [2, 2, 2, 2], f"got {answer}")


def register(checks):
    """Adds all checks of this file."""
    add_triton_checks(checks)
    add_json_checks(checks)
    add_binary_checks(checks)
    add_route_checks(checks)
