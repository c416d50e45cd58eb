"""Several replicas are one device, and what they cannot do is refused; who is who among the workers."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet.training import distribution, strategies
from keras_resnet.training.building import compiled
from keras_resnet.training.config import RECIPES, Config
from keras_resnet.training.devices import Devices, open_devices

ALONE = json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}})
TWO = SimpleNamespace(num_replicas_in_sync=2, extended=SimpleNamespace())


def test_two_replicas_are_one_device():
    script = Path(__file__).with_name("two_replicas.py")
    command = [sys.executable, str(script)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr[-4000:]


@pytest.mark.parametrize("batch_size", [7, 1])
def test_a_batch_is_shared_evenly(batch_size):
    with pytest.raises(ValueError, match=f"batch_size={batch_size} for 2 replicas"):
        distribution.check(TWO, batch_size)
    distribution.check(TWO, 8)
    distribution.check(tf.distribute.get_strategy(), batch_size)


@pytest.mark.parametrize(
    ("optimizer", "settings", "complaint"),
    [
        ({}, {"jit_compile": True}, "Received: jit_compile"),
        ({"gradient_accumulation_steps": 4}, {}, "take a larger batch. Received: gradient_accumulation_steps"),
        ({"clipnorm": 1.0}, {}, "Received: clipnorm"),
        ({"global_clipnorm": 1.0}, {}, "Received: global_clipnorm"),
        ({"clipvalue": 1.0}, {"jit_compile": True}, "Received: jit_compile(.|\n)*Received: clipvalue"),  # all at once
    ],
)
def test_what_replicas_cannot_do_is_refused(optimizer, settings, complaint):
    inputs = keras.Input((3,))
    trainer = distribution.Trainer(inputs, keras.layers.Dense(2)(inputs))
    optimizer = keras.optimizers.SGD(**optimizer)
    with pytest.raises(ValueError, match=complaint):
        trainer.compile(optimizer, **settings)
    with pytest.raises(ValueError, match=r"take LossScale .*, or mixed_bfloat16. Received: initial_scale"):
        trainer.compile(keras.optimizers.LossScaleOptimizer(optimizer))
    trainer.compile(keras.optimizers.SGD(use_ema=True, nesterov=True, weight_decay=1e-4))


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_can_have_replicas(recipe):
    inputs = keras.Input((3,))
    network = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    replicated = Devices(wrap=lambda model: distribution.Trainer(model.inputs, model.outputs))
    compiled(network, None, RECIPES[recipe], replicated)


def test_parameter_servers_are_refused():
    strategy = object.__new__(tf.distribute.ParameterServerStrategy)
    with pytest.raises(ValueError, match="multi_worker"):
        distribution.check(strategy, 8)


def test_a_wrapper_only_where_one_is_needed(monkeypatch):
    model = keras_resnet.ResNet20(depths=(1, 1, 1))
    strategy = SimpleNamespace(num_replicas_in_sync=2, scope=tf.distribute.get_strategy().scope)
    assert distribution.trainable(model, tf.distribute.get_strategy()) is model
    trainer = distribution.trainable(model, strategy)
    assert [id(variable) for variable in trainer.variables] == [id(variable) for variable in model.variables]
    monkeypatch.setattr(keras, "version", lambda: "3.16.0")
    with pytest.warns(UserWarning, match=r"up to 3.15; this is 3.16.0. .* pip install 'keras<3.16'"):
        distribution.trainable(model, strategy)


def test_a_lost_worker_is_explained_where_there_are_workers(monkeypatch):
    def lose():
        with distribution.lost_worker_explained(TWO):
            raise tf.errors.UnavailableError(None, None, "Collective ops is aborted by: ...")

    with pytest.raises(tf.errors.UnavailableError):
        lose()
    monkeypatch.setattr(distribution, "place", lambda strategy: (0, 2))
    with pytest.raises(RuntimeError, match="Another worker has ended"):
        lose()


@pytest.mark.parametrize(
    ("name", "arguments", "complaint"),
    [
        ("mirored", {}, "'mirrored'"),
        ("none", {"all_reduce": "nccl"}, "can be nothing"),
        ("mirrored", {"all_reduce": "ring"}, "nccl or hierarchical"),
        ("multi_worker", {"all_reduce": "hierarchical"}, "nccl or ring"),
        ("mirrored", {"all_reduce": "nccl"}, "NVIDIA's GPUs"),
        ("multi_worker", {}, "TF_CONFIG"),
    ],
)
def test_strategies_that_cannot_be_are_refused(name, arguments, complaint, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    with pytest.raises(ValueError, match=complaint):
        strategies.get_strategy(name, **arguments)


def test_all_reduce_reaches_the_strategy(monkeypatch):
    received = []
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda cross_device_ops: received.append(cross_device_ops))
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", lambda _, options: received.append(options))
    monkeypatch.setenv("TF_CONFIG", ALONE)
    for name, all_reduce in [("mirrored", None), ("mirrored", "hierarchical"), ("multi_worker", "ring")]:
        strategies.get_strategy(name, all_reduce)
    assert received[0] is None
    assert isinstance(received[1], tf.distribute.HierarchicalCopyAllReduce)
    assert received[2].implementation.value == "RING"


# Two tasks on each of two hosts, whose names do not sort as Slurm numbers them.
SLURM = {"JOB_ID": "20007", "STEP_NODELIST": "n[9-10]", "STEP_TASKS_PER_NODE": "2(x2)", "STEP_NUM_TASKS": "4"}


@pytest.mark.parametrize("rank", range(4))
def test_slurm_says_who_the_workers_are(rank, monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    host = ("n9", "n10")[rank // 2]
    monkeypatch.setenv("SLURM_PROCID", str(rank))
    monkeypatch.setenv("SLURM_LOCALID", str(rank % 2))
    monkeypatch.setenv("SLURMD_NODENAME", host)
    resolver = strategies.cluster_resolver()
    workers = resolver.cluster_spec().as_dict()["worker"]
    assert sorted(workers) == ["n10:12007", "n10:12008", "n9:12007", "n9:12008"]
    assert workers[resolver.task_id] == f"{host}:{12007 + rank % 2}"
    assert resolver.task_type == "worker"
    assert resolver.num_accelerators() == {"GPU": len(tf.config.list_physical_devices("GPU"))}
    monkeypatch.setenv("TF_CONFIG", ALONE)
    assert strategies.cluster_resolver().cluster_spec().as_dict() == {"worker": ["a:1"]}  # what is said, counts


def test_the_chief_is_the_first_of_the_workers(monkeypatch):
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    places = []
    for task in [("chief", 0), ("worker", 0), ("worker", 1)]:
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": dict(zip(("type", "index"), task))}))
        strategy = object.__new__(tf.distribute.MultiWorkerMirroredStrategy)
        strategy._extended = SimpleNamespace(_cluster_resolver=strategies.cluster_resolver())
        places.append((*strategies.place(strategy), strategies.is_chief(strategy)))
    assert places == [(0, 3, True), (1, 3, False), (2, 3, False)]


def test_where_the_tpu_is(monkeypatch):
    for name in ("TPU_NAME", "KUBE_GOOGLE_CLOUD_TPU_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)
    assert [strategies.tpu_address(tpu) for tpu in ("grpc://10.0.0.2:8470", None)] == ["grpc://10.0.0.2:8470", "local"]
    monkeypatch.setenv("TPU_NAME", "mine")
    assert strategies.tpu_address(None) is None  # TPUClusterResolver reads it
    connected = []
    monkeypatch.setattr(tf.distribute.cluster_resolver.TPUClusterResolver, "connect", lambda tpu: connected.append(tpu))
    monkeypatch.setattr(tf.distribute, "TPUStrategy", lambda resolver: "a strategy")
    assert strategies.get_strategy("tpu", tpu="other") == "a strategy"
    assert connected == ["other"]

    def fail(tpu):
        raise tf.errors.NotFoundError(None, None, "No TPU devices found")

    monkeypatch.setattr(tf.distribute.cluster_resolver.TPUClusterResolver, "connect", fail)
    with pytest.raises(ValueError, match=r"tensorflow-tpu.*tpu='other'"):
        open_devices(Config(strategy="tpu", tpu="other"))
