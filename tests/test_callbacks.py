"""Checkpoints as a run's callback: what they refuse to hold, and who waits for them."""

import signal

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.training import checkpoints
from keras_resnet.training.callbacks import Checkpoints, Clock, Diverged, StopOnNaN
from keras_resnet.training.devices import Devices

pytestmark = pytest.mark.lower_house


@pytest.fixture
def events():
    return []


@pytest.fixture
def saver(tmp_path, events):
    network = keras_resnet.ResNet20(depths=(1, 1, 1), widths=(16, 16, 16))
    network.compile("sgd", "sparse_categorical_crossentropy")
    devices = Devices(any_worker=lambda flag: events.append("all are here") or flag)
    return Checkpoints(
        tmp_path, Clock(), network, network, devices, [], 10, after_saving=lambda: events.append("written")
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_last_good_checkpoint_is_good(saver, value):
    saver.save()
    saver.check({"loss": 1.0, "val_loss": 2.0})
    saver.clock.step = 1
    with pytest.raises(Diverged, match=rf"The val_loss is {value} at step 1, .*checkpoint: .*step-000000000\."):
        saver.check({"loss": 1.0, "val_loss": value})
    bias = saver.network.weights[-1]
    bias.assign(np.where(np.arange(10) == 3, value, keras.ops.convert_to_numpy(bias)))
    with pytest.raises(Diverged, match=r"The weights are no longer numbers at step 1, .*step-000000000\."):
        saver.save()  # the step's loss was a number, and its update was none
    assert checkpoints.find(saver.root).name == "step-000000000"


def test_the_step_at_which_a_loss_was_no_number_is_told(saver):
    stop, clock = StopOnNaN(saver.check, saver.clock), saver.clock
    for batch in range(10):
        clock.step += 1
        stop.on_train_batch_end(batch, {"loss": np.nan if batch >= 3 else 1.0})
    clock.step += 1
    with pytest.raises(Diverged, match="The loss is nan at step 4, "):
        stop.on_train_batch_end(10, {"loss": np.nan})


def test_a_run_goes_on_with_the_data_that_it_began_with(saver):
    saver.facts = {"card": {"class_names": ["lying", "standing"]}, "num_examples": 8}
    saver.save()
    assert saver.restore() == 0
    saver.facts = {"card": {"class_names": ["lying", "upright"]}, "num_examples": 9}
    complaint = r"Received: card.class_names.1: 'standing' -> 'upright'; num_examples: 8 -> 9"
    with pytest.raises(ValueError, match=complaint):
        saver.restore()
    saver.facts = {"card": {"class_names": ["lying"]}, "num_examples": 8}
    with pytest.raises(ValueError, match="The data is not that of"):
        saver.restore()


def test_no_worker_ends_before_the_chief_has_written(saver, events):
    saver.save()
    assert events == ["written", "all are here"]


def test_a_second_ctrl_c_ends_a_run_at_once_and_a_second_sigterm_does_not(saver):
    saver.request_stop(signal.SIGTERM)
    saver.request_stop(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        saver.request_stop(signal.SIGINT)
    assert saver.signum == signal.SIGTERM
