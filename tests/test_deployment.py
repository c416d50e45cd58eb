"""What starts the server: read by the official messages, by Kubernetes' schemas, and tried where it can be."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

SERVING = Path(__file__).parent.parent / "recipes" / "serving"
CONFIG = SERVING / "config"
COMPOSE = yaml.safe_load((SERVING / "docker-compose.yml").read_text())["services"]["serving"]
MANIFESTS = {manifest["kind"]: manifest for manifest in yaml.safe_load_all((SERVING / "kubernetes.yml").read_text())}
POD = MANIFESTS["Deployment"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]


def flags(command):
    return dict(flag.removeprefix("--").split("=") for flag in command)


def models():
    from tensorflow_serving.config import model_server_config_pb2

    text = (CONFIG / "models.config").read_text()
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config


def batching_parameters():
    """TensorFlow Serving's BatchingParameters, which no package has: these are its fields."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="batching_parameters.proto", syntax="proto3", dependency=[wrappers_pb2.DESCRIPTOR.name]
    )
    message = file.message_type.add(name="BatchingParameters")
    wrapped = ["max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"]
    for number, name in enumerate(wrapped, 1):
        message.field.add(
            name=name,
            number=number,
            type=field.TYPE_MESSAGE,
            type_name=".google.protobuf.Int64Value",
            label=field.LABEL_OPTIONAL,
        )
    message.field.add(name="allowed_batch_sizes", number=6, type=field.TYPE_INT64, label=field.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("BatchingParameters"))()


def test_models():
    pytest.importorskip("tensorflow_serving", reason="tensorflow-serving-api, of the extra `test`, is absent")
    by_name = {model.name: model for model in models()}
    assert len(by_name) == len(models()) > 1
    for name, model in by_name.items():
        assert (model.base_path, model.model_platform) == (f"/models/{name}/saved_model", "tensorflow")
    labelled = by_name["resnet50"]
    assert dict(labelled.version_labels) == {"stable": 1, "canary": 2}
    assert set(labelled.version_labels.values()) <= set(labelled.model_version_policy.specific.versions)


def test_batching():
    parameters = text_format.Parse((CONFIG / "batching.config").read_text(), batching_parameters())
    assert parameters.max_batch_size.value == 16  # what our client sends at once
    assert 0 < parameters.batch_timeout_micros.value <= 10_000
    assert parameters.max_enqueued_batches.value > 0
    assert str(parameters.num_batch_threads.value) == CONTAINER["resources"]["requests"]["cpu"]
    sizes = list(parameters.allowed_batch_sizes)
    assert not sizes or (sizes == sorted(sizes) and sizes[-1] == parameters.max_batch_size.value)


def test_monitoring():
    pytest.importorskip("ovmsclient", reason="ovmsclient, of the extra `test`, is absent")
    from ovmsclient.tfs_compat.protos.tensorflow_serving.config import monitoring_config_pb2

    text = (CONFIG / "monitoring.config").read_text()
    prometheus = text_format.Parse(text, monitoring_config_pb2.MonitoringConfig()).prometheus_config
    assert prometheus.enable
    annotations = POD["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == prometheus.path
    assert annotations["prometheus.io/port"] == flags(CONTAINER["args"])["rest_api_port"]


def test_compose_and_kubernetes_start_the_same_server():
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", COMPOSE["image"])
    assert COMPOSE["image"] == CONTAINER["image"]
    assert COMPOSE["entrypoint"] == CONTAINER["command"]
    assert COMPOSE["command"] == CONTAINER["args"]
    given = flags(COMPOSE["command"])
    assert all((SERVING / path.lstrip("/")).is_file() for path in given.values() if path.startswith("/config/"))
    assert {volume.split(":", 1)[1].split("}:")[-1] for volume in COMPOSE["volumes"]} == {"/models:ro", "/config:ro"}
    assert {port.split(":", 1)[0] for port in COMPOSE["ports"]} == {"127.0.0.1"}
    assert {port.rsplit(":", 1)[1] for port in COMPOSE["ports"]} == {given["port"], given["rest_api_port"]}


def test_the_documentation_says_what_the_files_say():
    text = (SERVING.parents[1] / "docs" / "serving.md").read_text()
    assert set(re.findall(r"tensorflow/serving:[\w.]+", text)) == {COMPOSE["image"]}
    help_text = subprocess.run(
        [sys.executable, str(SERVING / "client.py"), "--help"], capture_output=True, text=True, timeout=60
    ).stdout
    used = set(re.findall(r"--(\w+)", "".join(re.findall(r"serving/client\.py(.*)", text))))
    assert used
    assert used <= set(re.findall(r"--(?:\[no\])?(\w+)", help_text))


def test_the_image_is_no_older_than_the_tensorflow_that_exports():
    import tensorflow as tf

    tag = COMPOSE["image"].rpartition(":")[2]
    assert [int(part) for part in tag.split(".")[:2]] >= [int(part) for part in tf.__version__.split(".")[:2]]


@pytest.mark.parametrize("kind", sorted(MANIFESTS))
def test_manifests_are_kubernetes(kind):
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate, of the extra `test`, is absent")
    validate.validate(MANIFESTS[kind], validate.latest_version(), strict=True)
    broken = {**MANIFESTS[kind], "spec": {**MANIFESTS[kind]["spec"], "replica": 2}}
    with pytest.raises(validate.ValidationError):
        validate.validate(broken, validate.latest_version(), strict=True)


def test_the_manifests_fit_together():
    labels = POD["metadata"]["labels"]
    assert MANIFESTS["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert MANIFESTS["Service"]["spec"]["selector"] == labels
    ports = {port["name"]: str(port["containerPort"]) for port in CONTAINER["ports"]}
    given = flags(CONTAINER["args"])
    assert ports == {"grpc": given["port"], "rest": given["rest_api_port"]}
    assert {port["targetPort"] for port in MANIFESTS["Service"]["spec"]["ports"]} == set(ports)
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in POD["spec"]["volumes"]}
    assert mounts == {"models": "/models", "config": "/config"}
    assert set(mounts) == set(volumes)
    kustomization = yaml.safe_load((SERVING / "kustomization.yml").read_text())
    (generated,) = kustomization["configMapGenerator"]
    assert generated["name"] == volumes["config"]["configMap"]["name"]
    assert {SERVING / file for file in generated["files"]} == set(CONFIG.iterdir())
    assert all((SERVING / file).is_file() for file in kustomization["resources"])


def test_the_probes_ask_for_a_network_that_is_served():
    pytest.importorskip("tensorflow_serving", reason="tensorflow-serving-api, of the extra `test`, is absent")
    health = COMPOSE["healthcheck"]["test"]
    assert ["CMD", *CONTAINER["readinessProbe"]["exec"]["command"]] == health
    assert re.search(r"GET /v1/models/(\S+) ", health[-1])[1] in {model.name for model in models()}
    ports = {port["name"] for port in CONTAINER["ports"]}
    assert {CONTAINER[probe]["tcpSocket"]["port"] for probe in ("startupProbe", "livenessProbe")} <= ports


@pytest.mark.skipif(not shutil.which("bash"), reason="bash, which the image has, is not here")
@pytest.mark.parametrize(
    ("state", "healthy"),
    [
        ('"state": "AVAILABLE", "status": {"error_code": "OK"}', True),
        ('"state": "END", "status": {"error_code": "UNAVAILABLE"}', False),
    ],
)
def test_the_health_check(state, healthy):
    """The command itself, against a port that answers as TensorFlow Serving does."""
    import http.server
    import threading

    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{%s}" % state.encode())

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    kind, shell, option, command = COMPOSE["healthcheck"]["test"]
    assert (kind, shell, option) == ("CMD", "bash", "-c")
    probe = [shell, option, command.replace("8501", str(server.server_port))]
    status = subprocess.run(probe, timeout=60, capture_output=True).returncode
    thread.join()
    server.server_close()
    assert (status == 0) == healthy
    assert asked == ["/v1/models/resnet50"]
    assert subprocess.run(probe, timeout=60, capture_output=True).returncode != 0  # nobody listens any more
