"""TensorFlow's distribution strategies by name, and a word on what a run has got."""

import tensorflow as tf

from keras_resnet.architectures import nearest


def _one_device() -> tf.distribute.Strategy:
    return tf.distribute.OneDeviceStrategy("gpu:0" if tf.config.list_physical_devices("GPU") else "cpu:0")


def _tpu() -> tf.distribute.Strategy:
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
    return tf.distribute.TPUStrategy(resolver)


STRATEGIES = {
    "none": tf.distribute.get_strategy,
    "one_device": _one_device,
    "mirrored": tf.distribute.MirroredStrategy,
    "tpu": _tpu,
}


def get_strategy(name: str) -> tf.distribute.Strategy:
    """A strategy by its name: `none`, `one_device`, `mirrored` (all GPUs of this machine) or `tpu`.

    GPU memory is taken as it is needed, not all of it at once.

    Example:
    >>> get_strategy("one_device").num_replicas_in_sync
    1
    """
    if name not in STRATEGIES:
        hint = nearest(name, STRATEGIES)
        raise ValueError(f"`strategy` must be one of {', '.join(STRATEGIES)}. Received: {name!r}.{hint}")
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)
    return STRATEGIES[name]()


def describe(strategy: tf.distribute.Strategy, name: str, batch_size: int, dtype: str) -> str:
    """One line: devices, replicas, batch and precision."""
    replicas = strategy.num_replicas_in_sync
    kinds = sorted({device.device_type for device in tf.config.list_logical_devices()})
    return (
        f"strategy {name}: {replicas} replica{'s' * (replicas > 1)} on {' and '.join(kinds)}, "
        f"batch {batch_size} ({batch_size // replicas} a replica), {dtype}"
    )
