"""Two replicas on two logical CPU devices against one device; `test_distribution.py` runs this in a process of its own.

Logical devices must be made before TensorFlow starts.
"""

import dataclasses
import tempfile
import warnings
from pathlib import Path

import keras
import kill_resume
import numpy as np
import tensorflow as tf

import keras_resnet
from keras_resnet.training import distribution, loop, strategies
from keras_resnet.training.callbacks import CSVLog
from keras_resnet.training.optimizers import SGD, Lamb, LossScale

RATE, MOMENTUM, DECAY, BATCH = 0.1, 0.9, 1e-2, 12
RANDOM = np.random.default_rng(0)
IMAGES, LABELS = RANDOM.normal(size=(36, 8, 8, 3)), RANDOM.integers(0, 3, 36)


def network(dtype, sync_batch_norm):
    keras.utils.set_random_seed(1)
    return keras_resnet.build(
        keras_resnet.Architecture(stem="cifar", depths=(1,), widths=(4,)),
        input_shape=(8, 8, 3),
        classes=3,
        dtype=dtype,
        sync_batch_norm=sync_batch_norm,
    )


def sgd():
    return SGD(RATE, MOMENTUM, weight_decay=DECAY)


def clipped_lamb():
    return Lamb(RATE, weight_decay=DECAY, global_clipnorm=1e-2)


def compiled(strategy, dtype, sync_batch_norm, optimizer=sgd, **arguments):
    with strategy.scope():
        net = network(dtype, sync_batch_norm)
        model = distribution.trainable(net, strategy)
        model.compile(optimizer(), "sparse_categorical_crossentropy", weighted_metrics=["accuracy"], **arguments)
    return net, model


def batches(size):
    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(size)


def trained(strategy, dtype, sync_batch_norm, **arguments):
    net, model = compiled(strategy, dtype, sync_batch_norm, **arguments)
    history = model.fit(batches(BATCH), epochs=2, shuffle=False, verbose=0).history
    return net, history, model.evaluate(batches(3), verbose=0), model.predict(batches(9), verbose=0)


def close(ours, theirs, tolerance, relative=0.0):
    for mine, other in zip(keras.tree.flatten(ours), keras.tree.flatten(theirs), strict=True):
        np.testing.assert_allclose(mine, other, rtol=relative, atol=tolerance)


def synchronised_is_one_device(two, one):
    """In float64 with the stock layer, clipped, three steps at a time, and batches that two cannot share evenly."""
    keras.config.set_floatx("float64")
    net, *theirs = trained(one, "float64", False, optimizer=clipped_lamb)
    own, *ours = trained(two, "float64", True, optimizer=clipped_lamb, steps_per_execution=3)
    close(own.get_weights(), net.get_weights(), 1e-12)
    close(ours, theirs, 1e-12)
    try:
        trained(two, "float64", True, steps_per_execution=2)
        raise AssertionError("3 batches are not whole executions of 2")
    except ValueError as error:
        assert "steps_per_execution=2 for 3 batches" in str(error), error
    keras.config.set_floatx("float32")


def reference(steps):
    """SGD by hand; each replica's half of a batch goes through a network with statistics of its own."""
    halves = [network("float32", False) for _ in range(2)]
    velocities = [np.zeros(variable.shape) for variable in halves[0].trainable_variables]
    for step in range(steps):
        first = step * BATCH % len(IMAGES)
        gradients = []
        for half, net in enumerate(halves):
            mine = slice(first + half * BATCH // 2, first + (half + 1) * BATCH // 2)
            with tf.GradientTape() as tape:
                predictions = net(IMAGES[mine].astype("float32"), training=True)
                losses = keras.losses.sparse_categorical_crossentropy(LABELS[mine], predictions)
                loss = tf.reduce_mean(losses)
            gradients.append(tape.gradient(loss, [variable.value for variable in net.trainable_variables]))
        for i, variable in enumerate(halves[0].trainable_variables):
            gradient = (gradients[0][i].numpy() + gradients[1][i].numpy()) / 2
            if variable.name == "kernel":
                gradient = gradient + DECAY * variable.numpy()
            velocities[i] = MOMENTUM * velocities[i] - RATE * gradient
            value = variable.numpy() + velocities[i]
            for net in halves:
                net.trainable_variables[i].assign(value)
    return halves


def unsynchronised_is_each_by_itself(two):
    """In float32 with the fused layer: each replica normalises by, and moves, its own statistics."""
    net, model = compiled(two, "float32", False)
    model.fit(batches(BATCH), epochs=2, shuffle=False, verbose=0)
    halves = reference(steps=6)
    close([v.numpy() for v in net.trainable_variables], [v.numpy() for v in halves[0].trainable_variables], 1e-5)
    own = statistics(net, two)
    theirs = [statistics(half, tf.distribute.get_strategy()) for half in halves]
    for (first, second), (one,), (other,) in zip(own, *theirs, strict=True):
        close([first, second], [one, other], 1e-5)
    assert max(np.abs(first - second).max() for first, second in own) > 1e-3

    average = distribution.averaging(net, two)
    for _ in range(2):  # the second time there is nothing to do
        average()
        for (first, second), before in zip(statistics(net, two), own, strict=True):
            close([first, second], [np.mean(before, axis=0)] * 2, 1e-7)


def statistics(net, strategy):
    """For each moving mean and variance its value on each replica."""
    return [
        [value.numpy() for value in strategy.experimental_local_results(variable.value)]
        for variable in net.variables
        if variable.name.startswith("moving")
    ]


def an_infinite_gradient_is_skipped_by_all(two, one):
    """One image that overflows, on either replica: the step is one device's, which is none; so is the scale."""
    images = np.random.default_rng(1).normal(size=(32, 3)).astype("float32")
    images[[8 + 5, 16 + 1]] = np.inf  # the second replica's of the second batch, the first's of the third
    data, ends = tf.data.Dataset.from_tensor_slices((images, np.arange(32) % 2)).batch(8), []
    for strategy, scaled in ((two, LossScale), (one, keras.optimizers.LossScaleOptimizer)):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            inputs = keras.Input((3,))
            model = distribution.trainable(keras.Model(inputs, keras.layers.Dense(2, "softmax")(inputs)), strategy)
            optimizer = scaled(sgd(), initial_scale=64.0, dynamic_growth_steps=2)
            optimizer.build(model.trainable_variables)
            model.compile(optimizer, "sparse_categorical_crossentropy", auto_scale_loss=False)
        model.fit(data, epochs=2, shuffle=False, verbose=0)
        scales = [float(value) for value in strategy.experimental_local_results(optimizer.dynamic_scale.value)]
        ends.append((model.get_weights(), int(keras.ops.convert_to_numpy(optimizer.iterations)), set(scales)))
    (ours, *more), (theirs, *expected) = ends
    close(ours, theirs, 1e-6)
    assert more == expected == [4, {8.0}], more  # 64, halved four times, doubled once


def a_run_goes_on_and_measures_what_it_keeps(two, folder):
    """On images in the devices' memory, with statistics of each replica's own; the second run also has an average."""
    config = dataclasses.replace(
        kill_resume.configuration(folder),
        settings=(("depths", (1,)), ("widths", (16,)), ("drop_path", 0.5)),
        strategy="mirrored",
        batch_size=32,
        steps=5,  # after the last checkpoint of the steps: those average as well
        checkpoint_steps=2,
    )
    for file in folder.glob("*.bin"):  # plain colours, of which each replica has other statistics
        rows = np.fromfile(file, np.uint8).reshape(-1, 3073)
        rows[:, 1:] = RANDOM.integers(0, 256, (len(rows), 1))
        rows.tofile(file)
    whole = loop.prepare(config, folder / "whole")
    assert len(two.experimental_local_results(whole.inputs.front.get_layer("table").pixels.value)) == 2
    loop.fit(whole, 5, verbose=0)
    logged = float(CSVLog(folder / "whole" / "log.csv", whole.clock).rows()[-1]["val_loss"])
    share = whole.inputs.num_test_examples / (whole.test_steps * whole.config.batch_size)  # Keras divides by all
    close(logged * share, whole.model.evaluate(whole.test, steps=whole.test_steps, verbose=0)[0], 1e-5)
    for until in (2, 5):
        resumed = loop.prepare(dataclasses.replace(config, ema=1e-9), folder / "resumed")
        loop.fit(resumed, until, verbose=0)
    close(resumed.network.get_weights(), whole.network.get_weights(), 1e-5, 1e-6)  # variances of hundreds
    resumed.average.put_in()  # the weights of the last step, with the mean of the replicas' statistics
    close(resumed.network.get_weights(), whole.network.get_weights(), 1e-5, 1e-6)


def main():
    warnings.simplefilter("error", UserWarning)  # Keras's, of data that ran out
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    one, two = strategies.get_strategy("none"), tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"])
    line = strategies.describe(two, "mirrored", BATCH, "float32")
    assert line == "strategy mirrored: 2 replicas on CPU, batch 12 (6 a replica), float32", line
    assert [strategies.synchronized(two, size) for size in (30, 32)] == [True, False]
    assert not strategies.synchronized(one, 1)
    unsynchronised_is_each_by_itself(two)
    synchronised_is_one_device(two, one)
    an_infinite_gradient_is_skipped_by_all(two, one)
    strategies.STRATEGIES["mirrored"] = lambda all_reduce, tpu: two
    with tempfile.TemporaryDirectory() as folder:
        a_run_goes_on_and_measures_what_it_keeps(two, Path(folder))


if __name__ == "__main__":
    main()
