#!/usr/bin/env python3
"""Checks a running host with the client that its users have: tritonclient[http].

    python client_conformance.py http://127.0.0.1:8080 [--only TEXT]

The host has to serve the models of tests/fixtures/models, version 1 of each. Prints a line for each
check and `N passed, N failed`; the exit code is 0 only if none failed.
"""

import argparse
import json
import ssl
import sys

import ml_dtypes
import numpy as np
import tritonclient.http as triton

import client_errors
import client_extensions
from client_support import BINARY_ONLY, VALUES, Checks, Raw, as_bytes, expect, same

CHECKS = Checks()
SMALL = {name: values.reshape(-1)[:1].reshape(1, 1) for name, values in VALUES.items()}


# Health and metadata


@CHECKS.check("the server is live and ready")
def server_health(client, raw):
    expect(client.is_server_live(), "not live")
    expect(client.is_server_ready(), "not ready")


@CHECKS.check("a model and its version are ready, an unknown one is not")
def model_health(client, raw):
    expect(client.is_model_ready("tiny"), "tiny is not ready")
    expect(client.is_model_ready("tiny", "1"), "version 1 of tiny is not ready")
    expect(not client.is_model_ready("no-such-model"), "a model that is not there is ready")
    expect(not client.is_model_ready("tiny", "77"), "a version that is not there is ready")


@CHECKS.check("server metadata name the server and its extensions")
def server_metadata(client, raw):
    metadata = client.get_server_metadata()
    expect(metadata["name"] and metadata["version"], f"got {metadata}")
    expect("binary_tensor_data" in metadata["extensions"], f"extensions are {metadata['extensions']}")


@CHECKS.check("model metadata give every input and output")
def model_metadata(client, raw):
    for metadata in (client.get_model_metadata("all_types"), client.get_model_metadata("all_types", "1")):
        expect(metadata["name"] == "all_types", f"name is {metadata['name']}")
        expect(metadata["versions"] == ["1"], f"versions are {metadata['versions']}")
        expect(metadata["platform"].startswith("onnx"), f"platform is {metadata['platform']}")
        for key, prefix in (("inputs", "in_"), ("outputs", "out_")):
            expected = [{"name": prefix + name, "datatype": name, "shape": [-1, -1]} for name in VALUES]
            expect(metadata[key] == expected, f"{key} are {metadata[key]}")


@CHECKS.check("model metadata keep fixed dimensions and scalars")
def model_metadata_shapes(client, raw):
    for model, shape in (("fixed", [2, 3]), ("scalar", []), ("big", [-1, 3, 224, 224]), ("tiny", [-1, 16])):
        found = client.get_model_metadata(model)["inputs"][0]["shape"]
        expect(found == shape, f"{model}: shape is {found}, expected {shape}")


@CHECKS.check("model config names the model, its inputs and outputs")
def model_config(client, raw):
    for config in (client.get_model_config("two_inputs"), client.get_model_config("two_inputs", "1")):
        expect(config["name"] == "two_inputs", f"name is {config['name']}")
        expect(isinstance(config["max_batch_size"], int), f"max_batch_size is {config['max_batch_size']!r}")
        expect([entry["name"] for entry in config["input"]] == ["A", "B"], f"input is {config['input']}")
        expect([entry["name"] for entry in config["output"]] == ["SUM", "DIFF"], f"output is {config['output']}")
        expect(all(entry["data_type"] == "TYPE_FP32" for entry in config["input"]), f"input is {config['input']}")


@CHECKS.check("the model list has the models")
def model_list(client, raw):
    status, _, body = raw.request("GET", "/v2/models")
    expect(status == 200, f"status {status}")
    expect(b"two_inputs" in body and b"all_types" in body, f"got {body[:200]!r}")


# Every datatype


def tensor(name, datatype, values, binary=True):
    """An input of a request."""
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def infer_all_types(client, datatype, values, binary):
    """Sends `values` through the model's input of that datatype, and one element through each other."""
    inputs = []
    for name, small in SMALL.items():
        chosen = name == datatype
        inputs.append(tensor(f"in_{name}", name, values if chosen else small, binary or name in BINARY_ONLY))
    output = triton.InferRequestedOutput(f"out_{datatype}", binary_data=binary)
    return client.infer("all_types", inputs, outputs=[output])


def add_datatype_check(datatype, binary):
    def run(client, raw):
        expected = VALUES[datatype]
        result = infer_all_types(client, datatype, expected, binary)
        found = result.get_output(f"out_{datatype}")
        expect(found["datatype"] == datatype, f"datatype is {found['datatype']}")
        expect(("data" in found) != binary, f"{'JSON' if binary else 'binary'} came")
        expect(len(result.get_response()["outputs"]) == 1, "outputs came that were not asked for")
        answer = result.as_numpy(f"out_{datatype}")
        expect(same(expected, answer), f"sent {expected.tolist()}, got {answer.tolist()}")

    CHECKS.add(f"{datatype} as {'binary' if binary else 'JSON'}", run)


for each in VALUES:
    add_datatype_check(each, True)
for each in VALUES:
    if each not in BINARY_ONLY:
        add_datatype_check(each, False)


@CHECKS.check("BYTES elements of any bytes as binary")
def arbitrary_bytes(client, raw):
    values = np.array([[b"\x00", b"\xff\xfe\x00\x01", bytes(range(256))]], object)
    answer = infer_all_types(client, "BYTES", values, True).as_numpy("out_BYTES")
    expect(same(values, answer), f"got {answer.tolist()}")


@CHECKS.check("NaN and infinity as binary")
def special_floats(client, raw):
    for datatype, dtype in (
        ("FP16", np.float16),
        ("BF16", ml_dtypes.bfloat16),
        ("FP32", np.float32),
        ("FP64", np.float64),
    ):
        values = np.array([[np.nan, np.inf, -np.inf]], dtype)
        answer = infer_all_types(client, datatype, values, True).as_numpy(f"out_{datatype}")
        expect(same(values, answer), f"{datatype}: got {answer.tolist()}")


@CHECKS.check("an empty tensor comes back empty")
def empty_tensor(client, raw):
    for binary in (True, False):
        values = np.empty((0, 3), np.int32)
        answer = infer_all_types(client, "INT32", values, binary).as_numpy("out_INT32")
        expect(answer.shape == (0, 3), f"binary {binary}: shape is {answer.shape}")


@CHECKS.check("all outputs of every datatype at once")
def everything(client, raw):
    inputs = [tensor(f"in_{name}", name, values) for name, values in VALUES.items()]
    result = client.infer("all_types", inputs)
    for name, values in VALUES.items():
        answer = result.as_numpy(f"out_{name}")
        expect(answer is not None, f"out_{name} is missing")
        expect(same(values, answer), f"out_{name}: got {answer.tolist()}")


# Requests and answers


A = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)
B = np.array([[0.5, 0, -1, 4], [1, 1, 1, 1]], np.float32)


@CHECKS.check("two inputs, both outputs, the model's name and version")
def two_inputs(client, raw):
    result = client.infer("two_inputs", [tensor("A", "FP32", A), tensor("B", "FP32", B)])
    response = result.get_response()
    expect(response["model_name"] == "two_inputs", f"model_name is {response['model_name']}")
    expect(response["model_version"] == "1", f"model_version is {response['model_version']!r}")
    expect([output["name"] for output in response["outputs"]] == ["SUM", "DIFF"], f"got {response['outputs']}")
    expect(same(A + B, result.as_numpy("SUM")), f"SUM is {result.as_numpy('SUM')}")
    expect(same(A - B, result.as_numpy("DIFF")), f"DIFF is {result.as_numpy('DIFF')}")


@CHECKS.check("inputs in another order, one as JSON and one as binary")
def mixed_inputs(client, raw):
    inputs = [tensor("B", "FP32", B, binary=False), tensor("A", "FP32", A)]
    outputs = [
        triton.InferRequestedOutput("DIFF", binary_data=True),
        triton.InferRequestedOutput("SUM", binary_data=False),
    ]
    result = client.infer("two_inputs", inputs, outputs=outputs)
    expect(same(A + B, result.as_numpy("SUM")), f"SUM is {result.as_numpy('SUM')}")
    expect(same(A - B, result.as_numpy("DIFF")), f"DIFF is {result.as_numpy('DIFF')}")


@CHECKS.check("only the outputs that were asked for")
def chosen_outputs(client, raw):
    outputs = [triton.InferRequestedOutput("DIFF")]
    result = client.infer("two_inputs", [tensor("A", "FP32", A), tensor("B", "FP32", B)], outputs=outputs)
    expect(result.as_numpy("SUM") is None, "SUM came, too")
    expect(same(A - B, result.as_numpy("DIFF")), f"DIFF is {result.as_numpy('DIFF')}")


@CHECKS.check("the request's id comes back, and none without one")
def request_id(client, raw):
    inputs = [tensor("A", "FP32", A), tensor("B", "FP32", B)]
    response = client.infer("two_inputs", inputs, request_id="one/2 drei").get_response()
    expect(response["id"] == "one/2 drei", f"id is {response.get('id')!r}")
    response = client.infer("two_inputs", inputs).get_response()
    expect("id" not in response, f"id is {response.get('id')!r}")


@CHECKS.check("a version in the path")
def version_in_path(client, raw):
    result = client.infer("tiny", [tensor("x", "FP32", np.ones((3, 16), np.float32))], model_version="1")
    expected = np.ones((3, 16)) @ (np.outer(np.arange(1, 17), np.arange(1, 5)) / 64)
    expect(np.allclose(result.as_numpy("y"), expected, rtol=1e-6), f"got {result.as_numpy('y')}")


@CHECKS.check("custom parameters are let through")
def parameters(client, raw):
    inputs = [tensor("A", "FP32", A), tensor("B", "FP32", B)]
    client.infer("two_inputs", inputs, parameters={"note": "x", "ratio": 0.5, "flag": True, "count": 3})


@CHECKS.check("a scalar and a shape without a choice")
def fixed_shapes(client, raw):
    result = client.infer("scalar", [tensor("x", "FP32", np.array(2.5, np.float32))])
    expect(same(np.array(5, np.float32), result.as_numpy("y")), f"got {result.as_numpy('y')}")
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    result = client.infer("fixed", [tensor("x", "FP32", values, binary=False)])
    expect(same(values * 2, result.as_numpy("y")), f"got {result.as_numpy('y')}")


@CHECKS.check("two pictures' worth of numbers, there and back")
def big_tensor(client, raw):
    values = np.random.default_rng(0).standard_normal((2, 3, 224, 224), np.float32)
    result = client.infer("big", [tensor("x", "FP32", values)])
    expect(same(values, result.as_numpy("y")), "what came back is not what was sent")


@CHECKS.check("many requests at once, each gets its own answer")
def concurrent(client, raw):
    values = [np.full((1, 5), number, np.float32) for number in range(64)]
    pending = [client.async_infer("identity_fp32", [tensor("x", "FP32", each)]) for each in values]
    for number, (expected, request) in enumerate(zip(values, pending)):
        expect(same(expected, request.get_result().as_numpy("y")), f"request {number} got another's answer")


def plain(data, **more):
    """A request for `fixed` in JSON."""
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 3], "data": data} | more]}


@CHECKS.check("nested and flat data mean the same, the answer is flat")
def nested_data(client, raw):
    for data in ([1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]):
        (output,) = raw.infer_json("fixed", plain(data))["outputs"]
        expect(output["data"] == [2, 4, 6, 8, 10, 12], f"{data} gave {output['data']}")
        expect(output["shape"] == [2, 3] and output["datatype"] == "FP32", f"got {output}")


@CHECKS.check("numbers in every notation of JSON, keys in any order, unknown ones let through")
def notations(client, raw):
    body = (
        ' {"parameters": {"a": 1}, "later": [{"x": null}], "inputs": [ {"data": [1e0, 2.0, 3E+0, -4, 0.5e1, 6],'
        ' "shape": [2, 3], "datatype": "FP32", "\\u006eame": "x"} ], "id": "n"} '
    )
    answer = raw.infer_json("fixed", body)
    expect(answer["outputs"][0]["data"] == [2, 4, 6, -8, 10, 12], f"got {answer}")
    expect(answer["id"] == "n", f"got {answer}")


@CHECKS.check("BYTES in JSON keep escapes and characters beyond the basic plane")
def json_text(client, raw):
    text = ["", 'quote " backslash \\ slash /', "\t\n\r\b\f", "é 日本 🙂"]
    for body in (json.dumps(text), json.dumps(text, ensure_ascii=False)):
        request = f'{{"inputs": [{{"name": "text", "datatype": "BYTES", "shape": [4], "data": {body}}}]}}'
        (output,) = raw.infer_json("echo_bytes", request)["outputs"]
        expect(output["data"] == text, f"got {output['data']}")


@CHECKS.check("a raw body is the one input, and all outputs come as binary")
def raw_binary(client, raw):
    values = np.arange(5, dtype=np.float32)
    for model, body, shape in (("vector_fp32", values.tobytes(), [5]), ("echo_bytes", b"any \x80 text", [1])):
        status, headers, answer = raw.infer(model, body, {"Inference-Header-Content-Length": "0"})
        expect(status == 200, f"{model}: status {status}: {answer[:200]!r}")
        length = int(headers["Inference-Header-Content-Length"])
        (output,) = json.loads(answer[:length])["outputs"]
        expect(output["shape"] == shape, f"{model}: shape is {output['shape']}")
        expected = len(body).to_bytes(4, "little") + body if model == "echo_bytes" else body
        expect(output["parameters"]["binary_data_size"] == len(expected), f"{model}: got {output}")
        expect(answer[length:] == expected, f"{model}: got {answer[length:]!r}")


@CHECKS.check("an answer with binary outputs says so in its headers, one without does not")
def answer_headers(client, raw):
    _, headers, _ = raw.infer("fixed", plain([0] * 6))
    expect(headers["Content-Type"].startswith("application/json"), f"Content-Type is {headers['Content-Type']}")
    expect("Inference-Header-Content-Length" not in headers, "a header length came with JSON only")
    body = plain([0] * 6) | {"parameters": {"binary_data_output": True}}
    _, headers, answer = raw.infer("fixed", body)
    expect(headers["Content-Type"] == "application/octet-stream", f"Content-Type is {headers['Content-Type']}")
    expect(len(answer) - int(headers["Inference-Header-Content-Length"]) == 24, f"got {len(answer)} bytes")


@CHECKS.check("health and metadata answer in JSON")
def json_health(client, raw):
    for path, expected in (
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/tiny/ready", {"name": "tiny", "ready": True}),
    ):
        status, _, body = raw.request("GET", path)
        expect(status == 200 and json.loads(body) == expected, f"{path}: {status} {body!r}")


@CHECKS.check("element for element, text in a BYTES answer is what was sent")
def text_elements(client, raw):
    values = np.array(["a", "ß", "🙂"], object)
    answer = client.infer("echo_bytes", [tensor("text", "BYTES", values)]).as_numpy("echo")
    expect([as_bytes(element) for element in answer] == [text.encode() for text in values], f"got {answer}")


client_errors.register(CHECKS)
client_extensions.register(CHECKS)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("url", help="where the host listens, such as http://127.0.0.1:8080")
    arguments.add_argument("--only", default="", metavar="TEXT", help="run the checks whose name contains it")
    arguments.add_argument("--ca", metavar="FILE", help="ask over TLS, and trust these certificates")
    options = arguments.parse_args()
    address = options.url.partition("://")[2].rstrip("/")
    trusted = ssl.create_default_context(cafile=options.ca) if options.ca else None
    secure = {"ssl": True, "ssl_context_factory": lambda: trusted} if trusted else {}
    client = triton.InferenceServerClient(address, concurrency=8, network_timeout=60, **secure)
    try:
        client.is_server_live()
    except OSError as error:
        sys.exit(f"no host answers at {address}: {error}")
    raw = Raw(options.url, trusted)
    passed, failed = CHECKS.run(options.only, client, raw, after_failure=raw.connection.close)
    client.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
