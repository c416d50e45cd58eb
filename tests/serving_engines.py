"""The real TensorFlow Serving, where this machine has it: as a program, or as an image that Docker has already."""

import contextlib
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

SERVING = Path(__file__).parent.parent / "recipes" / "serving"
COMPOSE = yaml.safe_load((SERVING / "docker-compose.yml").read_text())["services"]["serving"]


def reason_to_skip():
    """None where the end-to-end test can run. Nothing is pulled: tests do not reach the network."""
    if shutil.which("tensorflow_model_server"):
        return None
    if not shutil.which("docker"):
        return "neither tensorflow_model_server nor docker is on this machine"
    image = COMPOSE["image"]
    found = subprocess.run(["docker", "image", "inspect", image], capture_output=True, timeout=60)
    return f"no tensorflow_model_server here, and docker has no {image} at hand" if found.returncode else None


@contextlib.contextmanager
def model_server(models, config, name):
    """TensorFlow Serving with the flags of docker-compose.yml: `{"grpc": "grpc://127.0.0.1:PORT", "http": ...}`.

    Args:
        models: the folder with the networks; `config`: with models.config and the others.
        name: the network to wait for.
    """
    ports = {"8500": free_port(), "8501": free_port()}
    program = shutil.which("tensorflow_model_server")
    if program:
        flags = [flag.replace("=/config/", f"={config}/") for flag in COMPOSE["command"]]
        for inside, port in ports.items():
            flags = [flag.replace(f"={inside}", f"={port}") for flag in flags]
        text = (config / "models.config").read_text()
        (config / "models.config").write_text(text.replace('"/models', f'"{models}'))
        command = [program, *flags]
    else:
        published = [f"--publish=127.0.0.1:{port}:{inside}" for inside, port in ports.items()]
        volumes = [f"--volume={models}:/models:ro", f"--volume={config}:/config:ro"]
        entry = f"--entrypoint={COMPOSE['entrypoint'][0]}"
        command = ["docker", "run", "--rm", "--init", "--pull=never", *published, *volumes, entry, COMPOSE["image"]]
        command += COMPOSE["command"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_model(server, f"http://127.0.0.1:{ports['8501']}/v1/models/{name}")
        yield {"grpc": f"grpc://127.0.0.1:{ports['8500']}", "http": f"http://127.0.0.1:{ports['8501']}"}
    finally:
        server.terminate()  # `docker run` passes it on to the container
        server.wait(60)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def await_model(server, address):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:
            if answer.read().count(b'"AVAILABLE"') == 2:
                return
        if server.poll() is not None:
            break
        time.sleep(0.5)
    pytest.fail(f"TensorFlow Serving did not come up: exit status {server.poll()}.")
