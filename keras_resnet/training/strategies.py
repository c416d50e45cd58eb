"""TensorFlow's distribution strategies by name, a word on what a run has got, and who is who among the workers."""

import os

import tensorflow as tf

from keras_resnet.architectures import nearest

_RESOLVERS = tf.distribute.cluster_resolver
_IMPLEMENTATIONS = tf.distribute.experimental.CommunicationImplementation

# What sums the gradients. Without a choice TensorFlow takes NCCL where it can, between GPUs of one kind.
ALL_REDUCE = {
    "mirrored": {"nccl": tf.distribute.NcclAllReduce, "hierarchical": tf.distribute.HierarchicalCopyAllReduce},
    "multi_worker": {"nccl": lambda: _IMPLEMENTATIONS.NCCL, "ring": lambda: _IMPLEMENTATIONS.RING},
}

# Below so many images a replica, moments of a replica's own images are too noisy (Wu and He 2018, figure 1).
_ENOUGH_IMAGES = 16


def _one_device(all_reduce, tpu) -> tf.distribute.Strategy:
    return tf.distribute.OneDeviceStrategy("gpu:0" if tf.config.list_physical_devices("GPU") else "cpu:0")


def _multi_worker(all_reduce, tpu) -> tf.distribute.Strategy:
    options = tf.distribute.experimental.CommunicationOptions(implementation=all_reduce or _IMPLEMENTATIONS.AUTO)
    return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver(), options)


def _tpu(all_reduce, tpu) -> tf.distribute.Strategy:
    address = tpu_address(tpu)
    try:
        return tf.distribute.TPUStrategy(_RESOLVERS.TPUClusterResolver.connect(tpu=address))
    except tf.errors.NotFoundError as error:
        raise ValueError(
            "No TPU was found. On a TPU VM install tensorflow-tpu in place of tensorflow; from elsewhere give the "
            f"TPU's name or address, or set TPU_NAME. Received: tpu={address!r}."
        ) from error


STRATEGIES = {
    "none": lambda all_reduce, tpu: tf.distribute.get_strategy(),
    "one_device": _one_device,
    "mirrored": lambda all_reduce, tpu: tf.distribute.MirroredStrategy(cross_device_ops=all_reduce),
    "multi_worker": _multi_worker,
    "tpu": _tpu,
}


def get_strategy(name: str, all_reduce: str | None = None, tpu: str | None = None) -> tf.distribute.Strategy:
    """A strategy by its name. Call it before anything else of TensorFlow's: devices and workers are set up once.

    GPU memory is taken as it is needed, not all of it at once.

    Args:
        name: `none`, `one_device`, `mirrored` (all GPUs of this machine), `multi_worker` (all GPUs of each machine that
            TF_CONFIG or Slurm names) or `tpu`.
        all_reduce: what sums gradients: `nccl` or `hierarchical` under `mirrored`; `nccl`, or `ring` over the hosts'
            network, under `multi_worker`. None leaves the choice to TensorFlow.
        tpu: name or address of the TPU, or `local`; see `tpu_address`.

    Returns:
        The `tf.distribute.Strategy`.

    Example:
    >>> get_strategy("one_device").num_replicas_in_sync
    1
    """
    if name not in STRATEGIES:
        hint = nearest(name, STRATEGIES)
        raise ValueError(f"`strategy` must be one of {', '.join(STRATEGIES)}. Received: {name!r}.{hint}")
    gpus = tf.config.list_physical_devices("GPU")
    reduction = _reduction(name, all_reduce, bool(gpus))
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    return STRATEGIES[name](reduction, tpu)


def _reduction(strategy: str, all_reduce: str | None, has_gpu: bool):
    if all_reduce is None:
        return None
    choices = ALL_REDUCE.get(strategy, {})
    if all_reduce not in choices:
        raise ValueError(
            f"`all_reduce` under {strategy} can be {' or '.join(choices) or 'nothing'}; leave it out for TensorFlow's "
            f"choice. Received: {all_reduce!r}."
        )
    if all_reduce == "nccl" and not has_gpu:
        raise ValueError(
            "`all_reduce='nccl'` is between NVIDIA's GPUs, and TensorFlow sees none here: leave it out. "
            f"Received: {all_reduce!r}."
        )
    return choices[all_reduce]()


def cluster_resolver() -> _RESOLVERS.ClusterResolver:
    """Who the workers are and which of them this process is: from TF_CONFIG, else from Slurm.

    Returns:
        A `tf.distribute.cluster_resolver.ClusterResolver`.

    Example:
    >>> os.environ["TF_CONFIG"] = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'
    >>> cluster_resolver().task_id
    1
    >>> del os.environ["TF_CONFIG"]
    """
    if "TF_CONFIG" in os.environ:
        return _RESOLVERS.TFConfigClusterResolver()
    if "SLURM_STEP_NODELIST" in os.environ:
        return _slurm()
    raise ValueError(
        "`multi_worker` must be told who the workers are: set TF_CONFIG, start it with Slurm's srun "
        "(docs/distributed.md shows both), or take `mirrored` for one machine. "
        "Received: neither TF_CONFIG nor SLURM_STEP_NODELIST."
    )


def _slurm() -> _RESOLVERS.ClusterResolver:
    """The workers as `SlurmClusterResolver` lists them.

    It would hand out GPUs too, which Slurm has done, fails where there are none, and takes its own place from the rank:
    but it sorts hosts by name (n10, n9), and Slurm does not. So place and GPUs are what this process sees.
    """
    tasks, job = int(os.environ["SLURM_STEP_NUM_TASKS"]), int(os.environ["SLURM_JOB_ID"])
    port = 12_000 + job % 20_000  # two jobs on one host do not meet; below the ports that Linux gives to clients
    slurm = _RESOLVERS.SlurmClusterResolver(
        port_base=port, gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False
    ).cluster_spec()
    own = f"{os.environ['SLURMD_NODENAME']}:{port + int(os.environ['SLURM_LOCALID'])}"
    return _RESOLVERS.SimpleClusterResolver(
        slurm,
        task_type="worker",
        task_id=slurm.job_tasks("worker").index(own),
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
        rpc_layer="grpc",
    )


def tpu_address(tpu: str | None) -> str | None:
    """What `TPUClusterResolver` is given: the argument; else None where the environment names a TPU; else `local`.

    Example:
    >>> tpu_address("my-tpu")
    'my-tpu'
    """
    names_one = {"TPU_NAME", "KUBE_GOOGLE_CLOUD_TPU_ENDPOINTS"} & os.environ.keys()
    return tpu or (None if names_one else "local")


def place(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """The number of this process among the workers, and how many workers there are: `(0, 1)` but for `multi_worker`.

    Example:
    >>> place(get_strategy("none"))
    (0, 1)
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 0, 1
    return place_in(strategy.cluster_resolver)


def place_in(resolver: _RESOLVERS.ClusterResolver) -> tuple[int, int]:
    """As `place`, of the workers that a `cluster_resolver` knows.

    Example:
    >>> place_in(_RESOLVERS.SimpleClusterResolver(tf.train.ClusterSpec({"worker": ["a:1", "b:1"]}), "", "worker", 1))
    (1, 2)
    """
    cluster = resolver.cluster_spec().as_dict()
    tasks = [(job, task) for job in ("chief", "worker") for task in range(len(cluster.get(job, ())))]
    return (tasks.index((resolver.task_type, resolver.task_id)), len(tasks)) if tasks else (0, 1)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes: checkpoints, logs and the model.

    Example:
    >>> is_chief(get_strategy("none"))
    True
    """
    return place(strategy)[0] == 0


def synchronized(strategy: tf.distribute.Strategy, batch_size: int) -> bool:
    """Whether batch norms take their moments over all replicas: where a replica has too few images of its own.

    Synchronised ones lose the fused kernel, and the paper does not name them.

    Example:
    >>> synchronized(get_strategy("none"), batch_size=8)
    False
    """
    replicas = strategy.num_replicas_in_sync
    return replicas > 1 and batch_size / replicas < _ENOUGH_IMAGES


def describe(strategy: tf.distribute.Strategy, name: str, batch_size: int, dtype: str) -> str:
    """One line: devices, replicas, workers, batch and precision.

    Example:
    >>> describe(get_strategy("none"), "none", 32, "float32")
    'strategy none: 1 replica on ..., batch 32 (32 a replica), float32'
    """
    replicas, workers = strategy.num_replicas_in_sync, place(strategy)[1]
    kind = next(kind for kind in ("TPU", "GPU", "CPU") if tf.config.list_logical_devices(kind))
    machines = f" of {workers} workers" * (workers > 1)
    return (
        f"strategy {name}: {replicas} replica{'s' * (replicas > 1)} on {kind}{machines}, "
        f"batch {batch_size} ({batch_size // replicas} a replica), {dtype}"
    )
