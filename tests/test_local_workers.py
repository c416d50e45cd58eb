"""Local workers: who they are told they are, whose output is shown, and how they end together."""

import json
import signal
import subprocess
import sys
import time

import pytest

from keras_resnet.training import local_workers
from keras_resnet.training.local_workers import launch_local_workers


def python(code):
    return [sys.executable, "-c", f"import json, os, sys, time; me = json.loads(os.environ['TF_CONFIG'])\n{code}"]


def test_each_worker_knows_its_place_and_the_chief_alone_is_heard(tmp_path, capfd):
    code = f"open(r'{tmp_path}/' + str(me['task']['index']), 'w').write(json.dumps(me)); print(me['task']['index'])"
    assert launch_local_workers(3, python(code)) == 0
    assert capfd.readouterr() == ("0\n", "")
    told = [json.loads((tmp_path / str(index)).read_text()) for index in range(3)]
    assert [each["task"] for each in told] == [{"type": "worker", "index": index} for index in range(3)]
    assert len(set(told[0]["cluster"]["worker"])) == 3
    assert told[0]["cluster"] == told[1]["cluster"] == told[2]["cluster"]


def test_a_failure_is_shown_and_ends_all(capfd, monkeypatch):
    monkeypatch.setattr(local_workers, "_PATIENCE", 0.5)
    code = "if me['task']['index'] == 1: sys.exit('no disk')\ntime.sleep(600)"
    assert launch_local_workers(2, python(code)) == 1
    assert capfd.readouterr().err == "worker 1: no disk\n"
    with pytest.raises(ValueError, match="count=0"):
        launch_local_workers(0, [])


def test_signals_reach_every_worker(tmp_path):
    worker = f"""
import signal
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
open(r'{tmp_path}/' + str(me['task']['index']), 'w')
time.sleep(600)
"""
    # by its path: that does not import Keras
    launch = f"runpy.run_path({local_workers.__file__!r})['launch_local_workers']"
    launcher = subprocess.Popen([sys.executable, "-c", f"import runpy, sys; sys.exit({launch}(2, {python(worker)!r}))"])
    while len(list(tmp_path.iterdir())) < 2:
        assert launcher.poll() is None
        time.sleep(0.05)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(60) == 143
