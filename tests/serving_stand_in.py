"""Stands in for TensorFlow Serving in tests: its official gRPC stubs and its REST shapes over SavedModels.

python tests/serving_stand_in.py resnet20=served/resnet20/saved_model   # on ports 8500 and 8501
"""

import base64
import contextlib
import json
import re
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

LIMIT = 2**20  # bytes of a request; the real server's gRPC takes 2 GiB, a proxy before its REST often 1 MiB
PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(:predict|/metadata)?")
HTTP = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "UNAVAILABLE": 503}


class Refusal(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Death(Exception):
    """The server stops while it answers."""


class Core:
    """What both interfaces ask: by name, a folder of numbered SavedModels, the newest canary, the one before stable."""

    def __init__(self, **folders):
        self.models = {
            name: {int(version.name): version for version in Path(folder).iterdir() if version.name.isdigit()}
            for name, folder in folders.items()
        }
        self._signatures = {}
        self.mishaps = iter(())  # what happens to the next requests: an exception or None

    def version(self, spec):
        versions = self.models.get(spec.name)
        if versions is None:
            raise Refusal("NOT_FOUND", f"Servable not found for request: Latest({spec.name})")
        ordered = sorted(versions)
        if spec.version_label:
            labels = {"stable": ordered[-2:][0], "canary": ordered[-1]}
            if spec.version_label not in labels:
                raise Refusal("INVALID_ARGUMENT", f"Unrecognized servable version label: {spec.version_label}")
            return labels[spec.version_label]
        version = spec.version.value if spec.HasField("version") else ordered[-1]
        if version not in versions:
            raise Refusal("NOT_FOUND", f"Servable not found for request: Specific({spec.name}, {version})")
        return version

    def definitions(self, spec):
        saved = saved_model_pb2.SavedModel()
        saved.ParseFromString((self.models[spec.name][self.version(spec)] / "saved_model.pb").read_bytes())
        return saved.meta_graphs[0].signature_def

    def signature(self, spec):
        key = spec.name, self.version(spec)
        if key not in self._signatures:
            self._signatures[key] = tf.saved_model.load(self.models[key[0]][key[1]]).signatures
        name = spec.signature_name or "serving_default"
        if name not in self._signatures[key]:
            raise Refusal("INVALID_ARGUMENT", f'Serving signature name: "{name}" not found in signature def')
        return self._signatures[key][name]

    def predict(self, request):
        mishap = next(self.mishaps, None)
        if mishap is not None:
            raise mishap
        signature = self.signature(request.model_spec)
        expected = signature.structured_input_signature[1]
        if set(request.inputs) != set(expected):
            raise Refusal("INVALID_ARGUMENT", f"input keys {sorted(request.inputs)}, not {sorted(expected)}")
        inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        for name, tensor in inputs.items():
            if tensor.dtype != expected[name].dtype:
                raise Refusal("INVALID_ARGUMENT", f"Expects {name} to be {expected[name].dtype}, not {tensor.dtype}")
        outputs = signature(**inputs)
        unknown = set(request.output_filter) - set(outputs)
        if unknown:
            raise Refusal("INVALID_ARGUMENT", f"output tensor alias not found in signature: {sorted(unknown)[0]}")
        response = predict_pb2.PredictResponse(model_spec=request.model_spec)
        response.model_spec.version.value = self.version(request.model_spec)
        for name in request.output_filter or outputs:
            response.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name]))
        return response

    def metadata(self, request):
        response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=request.model_spec)
        response.model_spec.version.value = self.version(request.model_spec)
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=self.definitions(request.model_spec))
        response.metadata["signature_def"].Pack(signatures)
        return response

    def status(self, request):
        spec = request.model_spec
        self.version(spec)
        one = spec.HasField("version") or spec.version_label
        versions = [self.version(spec)] if one else sorted(self.models[spec.name], reverse=True)
        status = get_model_status_pb2.ModelVersionStatus
        return get_model_status_pb2.GetModelStatusResponse(
            model_version_status=[status(version=version, state=status.AVAILABLE, status={}) for version in versions]
        )


def grpc_server(core, port=0):
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", LIMIT)])

    def method(function):
        def answer(_self, request, context):
            try:
                return function(request)
            except Refusal as refusal:
                context.abort(grpc.StatusCode[refusal.code], str(refusal))
            except Death:
                server.stop(0).wait()

        return answer

    prediction = {"Predict": method(core.predict), "GetModelMetadata": method(core.metadata)}
    for name, base, methods in [
        ("Prediction", prediction_service_pb2_grpc.PredictionServiceServicer, prediction),
        ("Model", model_service_pb2_grpc.ModelServiceServicer, {"GetModelStatus": method(core.status)}),
    ]:
        add = {
            "Prediction": prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server,
            "Model": model_service_pb2_grpc.add_ModelServiceServicer_to_server,
        }[name]
        add(type(name, (base,), methods)(), server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return port, lambda: server.stop(0).wait()


def rest_server(core, port=0):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self.answer(None)

        def do_POST(self):
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if length > LIMIT:
                return self.write(413, b"<html>413 Request Entity Too Large</html>", "text/html")
            return self.answer(body)

        def answer(self, body):
            try:
                self.write(200, json.dumps(rest(core, self.path, body)).encode())
            except Refusal as refusal:
                self.write(HTTP[refusal.code], json.dumps({"error": str(refusal)}).encode())
            except Death:
                self.write(200, b'{"predictions": [', length=1000)
                server.socket.close()

        def write(self, status, text, kind="application/json", length=None):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length or len(text)))
            self.end_headers()
            self.wfile.write(text)

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()

    def stop():
        server.shutdown()
        thread.join()
        server.server_close()

    return server.server_port, stop


def rest(core, path, body):
    found = PATH.fullmatch(path)
    if not found or (body is None) != (found[4] != ":predict"):
        raise Refusal("INVALID_ARGUMENT", f"Malformed request: {'GET' if body is None else 'POST'} {path}")
    name, version, label, kind = found.groups()
    spec = {"name": name, "version_label": label, "version": {"value": int(version)} if version else None}
    if kind == ":predict":
        return predict_json(core, spec, body)
    if kind == "/metadata":
        response = core.metadata(get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec))
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return {"model_spec": as_json(response.model_spec), "metadata": {"signature_def": as_json(signatures)}}
    return as_json(core.status(get_model_status_pb2.GetModelStatusRequest(model_spec=spec)))


def as_json(message):
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def predict_json(core, spec, body):
    try:
        asked = json.loads(body)
    except ValueError as error:
        raise Refusal("INVALID_ARGUMENT", f"JSON Parse error: {error}") from error
    request = predict_pb2.PredictRequest(model_spec=spec | {"signature_name": asked.get("signature_name")})
    expected = core.signature(request.model_spec).structured_input_signature[1]
    if ("instances" in asked) == ("inputs" in asked):
        raise Refusal("INVALID_ARGUMENT", "Missing 'inputs' or 'instances' key")
    if "inputs" in asked:
        columns = asked["inputs"] if isinstance(asked["inputs"], dict) else {next(iter(expected)): asked["inputs"]}
    else:
        named = [
            row if isinstance(row, dict) and "b64" not in row else {next(iter(expected)): row}
            for row in asked["instances"]
        ]
        columns = {name: [row[name] for row in named] for name in named[0]}
    for name, values in columns.items():
        dtype = expected[name].dtype if name in expected else None
        try:
            request.inputs[name].CopyFrom(tf.make_tensor_proto(decoded(values), dtype=dtype))
        except (TypeError, ValueError) as error:
            raise Refusal("INVALID_ARGUMENT", f"Failed to process {name!r}: not of type {dtype}") from error
    outputs = {name: listed(tensor) for name, tensor in core.predict(request).outputs.items()}
    if len(outputs) == 1:
        (outputs,) = outputs.values()
    if "inputs" in asked:
        return {"outputs": outputs}
    if isinstance(outputs, list):
        return {"predictions": outputs}
    return {"predictions": [dict(zip(outputs, row)) for row in zip(*outputs.values())]}


def decoded(values):
    """Lists of numbers or of strings, or `{"b64": ...}`, to an array."""
    if isinstance(values, list) and values and not isinstance(values[0], int | float):
        return [decoded(value) for value in values]
    return base64.b64decode(values["b64"]) if isinstance(values, dict) else values


def listed(tensor):
    values = tf.make_ndarray(tensor)
    return np.char.decode(values.astype("S"), "utf-8").tolist() if values.dtype == object else values.tolist()


@contextlib.contextmanager
def served(core):
    """The core behind both interfaces on free ports: `{"grpc": "grpc://127.0.0.1:PORT", "http": ...}`."""
    with contextlib.ExitStack() as stack:
        targets = {}
        for scheme, start in [("grpc", grpc_server), ("http", rest_server)]:
            port, stop = start(core)
            stack.callback(stop)
            targets[scheme] = f"{scheme}://127.0.0.1:{port}"
        yield targets


if __name__ == "__main__":
    models = Core(**dict(argument.split("=") for argument in sys.argv[1:]))
    grpc_server(models, 8500)
    rest_server(models, 8501)
    for model_name, folders in models.models.items():
        print(model_name, *sorted(folders), flush=True)
    threading.Event().wait()
