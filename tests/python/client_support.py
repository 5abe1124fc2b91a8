"""What the conformance checks share: the list of checks, a raw connection, test values.

Owns the registration and the running of checks. It never knows what a single check is about.
"""

import http.client
import json
import traceback
import urllib.parse

import ml_dtypes
import numpy as np

# FP16 and BF16 have no JSON form in the protocol.
BINARY_ONLY = ("FP16", "BF16")


def integers(dtype, *more):
    """Both ends of an integer type, with what lies between: shape [2, 2]."""
    limits = np.iinfo(dtype)
    return np.array([[limits.min, limits.max], [0, *(more or (1,))]], dtype)


def floats(dtype):
    """Both ends of a float type, the smallest, a negative zero and a third: shape [2, 3]."""
    limits = ml_dtypes.finfo(dtype)
    return np.array([[limits.min, limits.max, limits.smallest_subnormal], [-0.0, 1 / 3, 1]], dtype)


VALUES = {
    "BOOL": np.array([[True, False], [False, True]]),
    "UINT8": integers(np.uint8),
    "UINT16": integers(np.uint16),
    "UINT32": integers(np.uint32),
    "UINT64": integers(np.uint64, 2**53 + 1),
    "INT8": integers(np.int8),
    "INT16": integers(np.int16),
    "INT32": integers(np.int32),
    "INT64": integers(np.int64, 2**53 + 1),
    "FP16": floats(np.float16),
    "FP32": floats(np.float32),
    "FP64": floats(np.float64),
    "BF16": floats(ml_dtypes.bfloat16),
    "BYTES": np.array([[b"", "é\"\\\n".encode()], ["日本語 🙂".encode(), b"x" * 300]], object),
}


def same(expected, found):
    """Whether two arrays agree to the last bit, in type, shape and content."""
    if expected.shape != found.shape:
        return False
    if expected.dtype == object:
        return all(as_bytes(one) == as_bytes(other) for one, other in zip(expected.flat, found.flat))
    return expected.dtype == found.dtype and expected.tobytes() == found.tobytes()


def as_bytes(element):
    """A BYTES element: text is what JSON makes of it."""
    return element.encode() if isinstance(element, str) else element


def expect(condition, message):
    """Fails the running check."""
    if not condition:
        raise AssertionError(message)


class Raw:
    """One kept-alive connection for requests that no well-behaved client sends."""

    def __init__(self, url, context=None):
        address = urllib.parse.urlsplit(url).netloc
        if context is None:
            self.connection = http.client.HTTPConnection(address, timeout=30)
        else:
            self.connection = http.client.HTTPSConnection(address, timeout=30, context=context)

    def request(self, method, path, body=None, headers=None):
        """Sends a request; `body` may be bytes, text, or anything that JSON can say."""
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        self.connection.request(method, path, body, headers or {})
        response = self.connection.getresponse()
        return response.status, response.headers, response.read()

    def infer(self, model, body, headers=None):
        """POSTs to a model's `infer`."""
        return self.request("POST", f"/v2/models/{model}/infer", body, headers)

    def infer_json(self, model, body):
        """POSTs to a model's `infer` and reads a JSON answer."""
        status, _, answer = self.infer(model, body)
        expect(status == 200, f"status {status}: {answer[:300]!r}")
        return json.loads(answer)


class Checks:
    """The checks in the order in which they were written down."""

    def __init__(self):
        self.entries = []

    def add(self, name, function):
        """Registers a check."""
        self.entries.append((name, function))

    def check(self, name):
        """Registers the function below it as a check."""

        def register(function):
            self.add(name, function)
            return function

        return register

    def run(self, wanted, *given, after_failure=lambda: None):
        """Runs the checks whose name contains `wanted`; returns how many passed and failed."""
        passed, failed = 0, 0
        for name, function in self.entries:
            if wanted not in name:
                continue
            try:
                function(*given)
            except Exception as error:  # noqa: BLE001 - any failure is the check's result
                failed += 1
                where = traceback.extract_tb(error.__traceback__)[-1]
                print(f"FAILED  {name}: {type(error).__name__}: {error} ({where.name}:{where.lineno})", flush=True)
                after_failure()
            else:
                passed += 1
                print(f"ok      {name}", flush=True)
        return passed, failed
