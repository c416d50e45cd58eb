"""What docs/distributed.md has for clusters that are not here: Kubernetes' schema takes it, and bash does."""

import json
import re
import subprocess
from pathlib import Path

import documents
import pytest
import yaml

PAGE = Path(__file__).parents[1] / "docs" / "distributed.md"
(TEXT,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
SERVICE, JOB = yaml.safe_load_all(TEXT)
POD = JOB["spec"]["template"]["spec"]
(WORKER,) = POD["containers"]


@pytest.mark.parametrize("manifest", [SERVICE, JOB], ids=["service", "job"])
def test_manifests_are_kubernetes(manifest):
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate, of the extra `test`, is absent")
    validate.validate(manifest, validate.latest_version(), strict=True)
    with pytest.raises(validate.ValidationError):
        validate.validate({**manifest, "specification": {}}, validate.latest_version(), strict=True)


@pytest.mark.parametrize("index", range(JOB["spec"]["completions"]))
def test_each_pod_learns_who_it_is(index):
    """TF_CONFIG as bash makes it: one worker a pod, under the name that the service gives it."""
    script = WORKER["args"][0].replace("exec python recipes/imagenet.py", 'echo "$TF_CONFIG"; exit; exec true')
    environment = {"JOB_COMPLETION_INDEX": str(index)}
    told = subprocess.run(
        [*WORKER["command"], script], env=environment, capture_output=True, text=True, check=True
    ).stdout
    config = json.loads(told)
    assert config["task"] == {"type": "worker", "index": index}
    (port,) = (port["containerPort"] for port in WORKER["ports"])
    name, service = JOB["metadata"]["name"], SERVICE["metadata"]["name"]
    hosts = [f"{name}-{number}.{service}:{port}" for number in range(JOB["spec"]["completions"])]
    assert config["cluster"] == {"worker": hosts}
    assert POD["subdomain"] == service
    assert SERVICE["spec"]["selector"] == {"job-name": name}
    assert {mount["name"] for mount in WORKER["volumeMounts"]} == {volume["name"] for volume in POD["volumes"]}


def test_the_shells_scripts_are_bash():
    scripts = [block.code for block in documents.blocks(PAGE) if block.language == "sh"]
    assert any("#SBATCH" in script for script in scripts)
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
