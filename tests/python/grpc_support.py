"""What the checks of gRPC share: a host's addresses, its clients, and REST's answers to compare with.

Owns the connections. It never knows what a single check is about.
"""

import json
import urllib.error
import urllib.request

import grpc
import tritonclient.grpc as triton

SERVICE = "/inference.GRPCInferenceService/"


class Host:
    """A running host, as its clients see it."""

    def __init__(self, rest, address, ca=None):
        self.rest = rest
        self.address = address
        self.ca = ca
        self.channel = self.open([("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)])
        self.client = self.triton()

    def open(self, options):
        """A channel, over TLS if there is an authority to trust."""
        if self.ca is None:
            return grpc.insecure_channel(self.address, options=options)
        with open(self.ca, "rb") as file:
            trusted = grpc.ssl_channel_credentials(file.read())
        return grpc.secure_channel(self.address, trusted, options=options)

    def triton(self):
        """A client of Triton's, likewise."""
        return triton.InferenceServerClient(self.address, ssl=self.ca is not None, root_certificates=self.ca)

    def get(self, path):
        """The JSON of a GET over REST."""
        with urllib.request.urlopen(self.rest + path, timeout=30) as answer:
            return json.load(answer)

    def refused(self, path, body):
        """The text of the error that REST answers with."""
        request = urllib.request.Request(self.rest + path, json.dumps(body).encode())
        try:
            urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            return json.load(error)["error"]
        raise AssertionError(f"{path} was answered")

    def post(self, path, body=None):
        """The JSON of a POST over REST."""
        request = urllib.request.Request(self.rest + path, json.dumps(body or {}).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def call(self, method, message, metadata=None, timeout=30, channel=None, compression=None):
        """Calls a method with bytes, and gets bytes."""
        path = method if method.startswith("/") else SERVICE + method
        call = (channel or self.channel).unary_unary(path, lambda sent: sent, lambda came: came)
        return call(message, metadata=metadata, timeout=timeout, compression=compression)

    def stream(self, method, messages, metadata=None, timeout=30):
        """Calls a streaming method with bytes, and gets the answers' bytes one by one."""
        call = self.channel.stream_stream(SERVICE + method, lambda sent: sent, lambda came: came)
        return call(iter(messages), metadata=metadata, timeout=timeout)


def tensor(name, datatype, values):
    """An input of a request."""
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values)
    return made


def refusal(call):
    """The error that a call fails with."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call was answered")


def metadata_of(error):
    """Initial and trailing metadata together, since an error may have them in either."""
    pairs = list(error.initial_metadata() or ()) + list(error.trailing_metadata() or ())
    return {name: value for name, value in pairs}
