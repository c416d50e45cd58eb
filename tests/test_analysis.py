"""Numbers and pictures of networks and trainings, against counts by hand and brute-force NumPy."""

import struct

import numpy as np
import pytest

from keras_resnet.analysis import plot_curves, plot_panels, read_curve

pytestmark = pytest.mark.lower_house
LOG = "epoch,accuracy,learning_rate,val_accuracy\n0,0.5,0.1,0.25\n1,0.75,0.1,NA\n2,0.9,0.1,0.5\n"


def write_log(path, text=LOG):
    path.write_text(text)
    return path


def size_of_png(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def test_a_curve_is_the_error_in_percent(tmp_path):
    curve = read_curve(write_log(tmp_path / "log.csv"))
    assert curve.unit == "epochs"
    np.testing.assert_array_equal(curve.at, [1, 2, 3])
    np.testing.assert_allclose(curve.training, [50, 25, 10])
    np.testing.assert_array_equal(curve.test, [75, np.nan, 50])
    curve = read_curve(write_log(tmp_path / "log.csv", "epoch,accuracy,step\n0,0.5,391\n1,1,782\n"))
    assert curve.unit == "iterations"
    np.testing.assert_array_equal(curve.at, [391, 782])
    assert np.isnan(curve.test).all()


def test_curves_become_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    log = write_log(tmp_path / "log.csv")
    plot_curves({"ResNet-20": log, "ResNet-56": log}, tmp_path / "new" / "curves.png", title="CIFAR-10")
    plot_panels({"plain": {"20": log}, "residual": {"20": log}}, tmp_path / "panels.png")
    (one, height), (two, same) = (size_of_png(tmp_path / name) for name in ("new/curves.png", "panels.png"))
    assert (one < two, height) == (True, same)


def test_logs_that_cannot_be_drawn_are_refused(tmp_path):
    log = write_log(tmp_path / "log.csv")
    with pytest.raises(ValueError, match=r"empty\.csv"):
        read_curve(write_log(tmp_path / "empty.csv", "epoch,accuracy\n"))
    with pytest.raises(ValueError, match="columns epoch and accuracy"):
        read_curve(write_log(tmp_path / "other.csv", "epoch,loss\n0,1\n"))
    with pytest.raises(ValueError, match="one run at least"):
        plot_curves({}, tmp_path / "nothing.png")
    steps = write_log(tmp_path / "steps.csv", "epoch,accuracy,step\n0,0.5,391\n")
    with pytest.raises(ValueError, match="draw them apart"):
        plot_curves({"one": log, "other": steps}, tmp_path / "both.png")
