"""REST and gRPC to TensorFlow Serving behind one face: `predict(images, timeout)` and `describe(timeout)`.

REST needs the standard library alone; gRPC needs the extra `serving`. Whatever goes wrong is a `RequestError` with
gRPC's name for it.
"""

import base64
import dataclasses
import http.client
import json
import random
import time
import urllib.parse
from collections.abc import Callable

# What `keras_resnet.export` calls the input and those outputs that are asked for.
INPUT = "image_bytes"
OUTPUTS = ("classes", "scores", "valid")

# The way back from TensorFlow Serving's own table; 413 and 502 are a proxy's.
CODES = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


@dataclasses.dataclass(frozen=True)
class Model:
    """What is asked: a network's name, its newest version unless a version or a label is given, a signature."""

    name: str
    version: int | None = None
    label: str | None = None
    signature: str = "serving_default"


@dataclasses.dataclass(frozen=True)
class Row:
    """What the server says of one image; `valid` is false, and the rest empty, where it could not decode it."""

    classes: list[str]
    scores: list[float]
    valid: bool


class RequestError(Exception):
    """A request without an answer: gRPC's name of what happened, and what the server or the network said."""

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code = code


class Rest:
    """TensorFlow Serving's REST interface."""

    def __init__(self, url: urllib.parse.SplitResult, model: Model):
        # Not urllib.request: a proxy or a redirect could lead a load test to a machine that nobody named.
        self._connection = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}[url.scheme]
        self._address, self._signature = (url.hostname, url.port), model.signature
        version = f"/versions/{model.version}" if model.version is not None else ""
        label = f"/labels/{urllib.parse.quote(model.label, safe='')}" if model.label is not None else ""
        self._path = f"/v1/models/{urllib.parse.quote(model.name, safe='')}{version}{label}"

    def predict(self, images: list[bytes], timeout: float) -> list[Row]:
        """Encoded images to a row each, within about `timeout` seconds."""
        instances = [{"b64": base64.b64encode(image).decode("ascii")} for image in images]
        body = json.dumps({"signature_name": self._signature, "instances": instances}).encode("ascii")
        rows = self._ask("POST", f"{self._path}:predict", body, "predictions", timeout)
        given = sorted(rows[0]) if isinstance(rows[0], dict) else ["one output without a name"]
        if not set(OUTPUTS) <= set(given):
            raise _wrong_signature(self._signature, given)
        return [Row(*(row[name] for name in OUTPUTS)) for row in rows]

    def describe(self, timeout: float) -> dict:
        """The signatures: their inputs and outputs, each with its type and shape."""
        found = self._ask("GET", f"{self._path}/metadata", None, "metadata", timeout)
        return _signatures(found["signature_def"]["signature_def"])

    def _ask(self, method: str, path: str, body: bytes | None, wanted: str, timeout: float):
        connection = self._connection(*self._address, timeout=timeout)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read()
        except TimeoutError as error:
            raise RequestError("DEADLINE_EXCEEDED", f"no answer within {timeout:.1f} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise RequestError("UNAVAILABLE", str(error) or type(error).__name__) from error
        finally:
            connection.close()
        try:
            answer = json.loads(text)
            if response.status == 200:
                return answer[wanted]
            message = answer["error"]
        except (ValueError, TypeError, KeyError):  # not TensorFlow Serving's: a proxy's page, say
            message = f"{response.reason}: {text[:200].decode('utf-8', 'replace')}"
        raise RequestError(CODES.get(response.status, "UNKNOWN"), f"HTTP {response.status}: {message}")


class Grpc:
    """TensorFlow Serving's gRPC interface, through the official messages and stubs."""

    def __init__(self, url: urllib.parse.SplitResult, model: Model):
        try:
            import grpc
            from tensorflow_serving.apis import model_pb2, prediction_service_pb2_grpc
        except ImportError as error:
            raise ValueError(f"gRPC needs `pip install keras-resnet-garden[serving]` ({error}).") from error
        options = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_receive_message_length", -1),
            # A channel waits by itself between attempts to connect, 1 s and more: here the caller waits.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        self._channel = grpc.insecure_channel(url.netloc, options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._specification = model_pb2.ModelSpec(
            name=model.name, version_label=model.label, signature_name=model.signature
        )
        if model.version is not None:
            self._specification.version.value = model.version

    def predict(self, images: list[bytes], timeout: float) -> list[Row]:
        """Encoded images to a row each, within `timeout` seconds."""
        import tensorflow as tf
        from tensorflow_serving.apis.predict_pb2 import PredictRequest

        request = PredictRequest(model_spec=self._specification, output_filter=OUTPUTS)
        request.inputs[INPUT].CopyFrom(tf.make_tensor_proto(images, dtype=tf.string, shape=[len(images)]))
        outputs = self._ask(self._stub.Predict, request, timeout).outputs
        if not set(OUTPUTS) <= set(outputs):
            raise _wrong_signature(self._specification.signature_name, sorted(outputs))
        classes, scores, valid = (tf.make_ndarray(outputs[name]).tolist() for name in OUTPUTS)
        return [Row([name.decode() for name in names], *rest) for names, *rest in zip(classes, scores, valid)]

    def describe(self, timeout: float) -> dict:
        """The signatures: their inputs and outputs, each with its type and shape."""
        from google.protobuf.json_format import MessageToDict
        from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap

        request = GetModelMetadataRequest(model_spec=self._specification, metadata_field=["signature_def"])
        found = SignatureDefMap()
        self._ask(self._stub.GetModelMetadata, request, timeout).metadata["signature_def"].Unpack(found)
        return _signatures(MessageToDict(found, preserving_proto_field_name=True)["signature_def"])

    def _ask(self, method: Callable, request, timeout: float):
        import grpc

        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            raise RequestError(error.code().name, error.details()) from error


TRANSPORTS = {"http": Rest, "https": Rest, "grpc": Grpc}


def connect(target: str, model: Model) -> Rest | Grpc:
    """The transport that the target's scheme names.

    Args:
        target: `http://HOST:PORT`, `https://HOST:PORT` or `grpc://HOST:PORT`.
        model: what is asked there.

    Example:
    >>> connect("http://127.0.0.1:8501", Model("resnet50", label="stable"))._path
    '/v1/models/resnet50/labels/stable'
    """
    url = urllib.parse.urlsplit(target)
    if url.scheme not in TRANSPORTS or not url.hostname or not url.port:
        schemes = ", ".join(f"{scheme}://HOST:PORT" for scheme in TRANSPORTS)
        raise ValueError(f"The target must be one of {schemes}. Received: {target!r}.")
    if model.version is not None and model.label is not None:
        raise ValueError(f"Give a version or a label. Received: version={model.version}, label={model.label!r}.")
    return TRANSPORTS[url.scheme](url, model)


def with_retries(call: Callable[[float], object], deadline: float, retries: int, first_wait: float = 0.1):
    """Calls again while the server is unavailable: a prediction changes nothing, so asking twice does no harm.

    Args:
        call: takes the seconds that are left.
        deadline: seconds for all attempts and the waits between them.
        retries: how many attempts may follow the first.
        first_wait: seconds before the second attempt; twice as long before each next one, less a random part so that
            many clients do not come back at once.

    Returns:
        What `call` returns.

    Example:
    >>> with_retries(lambda left: f"{left:.0f} s", deadline=30, retries=5)
    '30 s'
    """
    end, wait = time.monotonic() + deadline, first_wait
    while True:
        try:
            return call(end - time.monotonic())
        except RequestError as error:
            pause = wait * random.uniform(0.5, 1)
            if error.code != "UNAVAILABLE" or retries == 0 or time.monotonic() + pause >= end:
                raise
        time.sleep(pause)
        retries, wait = retries - 1, 2 * wait


def _wrong_signature(signature: str, given: list[str]) -> RequestError:
    return RequestError(
        "INVALID_ARGUMENT", f"signature {signature!r} does not give {', '.join(OUTPUTS)} but {', '.join(given)}"
    )


def _signatures(definitions: dict) -> dict:
    """From SignatureDef as JSON: `{signature: {"inputs": {name: "DT_STRING [-1]"}, "outputs": {...}}}`."""

    def tensors(side: dict) -> dict:
        shapes = {name: [int(d["size"]) for d in t["tensor_shape"].get("dim", [])] for name, t in side.items()}
        return {name: f"{tensor['dtype']} {shapes[name]}" for name, tensor in sorted(side.items())}

    return {
        name: {side: tensors(definition.get(side, {})) for side in ("inputs", "outputs")}
        for name, definition in sorted(definitions.items())
        if not name.startswith("__")  # TensorFlow's own
    }
