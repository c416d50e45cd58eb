"""Several workers on one machine: to try `multi_worker` without a cluster."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

_PATIENCE = 40.0  # seconds: a worker takes about 15 to notice that another one has gone, and a checkpoint takes some


def launch_local_workers(count: int, argv: Sequence[str]) -> int:
    """Runs a command as so many workers of one cluster, told by TF_CONFIG, on this machine's CPU.

    The first worker, the chief, has this process's output. Of another one's the end is shown if it fails. Signals go to
    all of them. When one fails the others get time to notice, and are then ended: none is left behind.

    Args:
        count: number of workers.
        argv: the command of each of them.

    Returns:
        The exit status: 0, or that of the first worker to fail (128 and the signal's number if a signal ended it).

    Example:
    >>> launch_local_workers(2, [sys.executable, "-c", "import os; assert 'TF_CONFIG' in os.environ"])
    0
    """
    if count < 1:
        raise ValueError(f"A cluster has 1 worker or more. Received: count={count}.")
    with contextlib.ExitStack() as stack:
        outputs = [None, *(stack.enter_context(tempfile.TemporaryFile()) for _ in range(count - 1))]
        workers: list[subprocess.Popen] = []
        stack.callback(_kill, workers)
        signals = stack.enter_context(_signals_to(workers))
        for environment, output in zip(_environments(count), outputs):
            # In a session of its own: Ctrl-C reaches a worker once, from here, and not from the terminal as well.
            workers.append(
                subprocess.Popen(argv, env=environment, stdout=output, stderr=output, start_new_session=True)
            )
        first = _wait(workers, signals)
        if first is None:
            return 0
        if outputs[first] is not None:
            _show_end(outputs[first], first)
        status = workers[first].returncode
        return status if status > 0 else 128 - status


def _environments(count: int) -> Iterator[dict[str, str]]:
    with contextlib.ExitStack() as stack:  # held together, so that no two are the same
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for index in range(count):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        # NCCL does not let two processes share a GPU.
        yield os.environ | {"TF_CONFIG": json.dumps(config), "CUDA_VISIBLE_DEVICES": "-1"}


def _wait(workers: Sequence[subprocess.Popen], signals: Sequence[int]) -> int | None:
    """Waits for all; the number of the first that failed."""
    first, deadline = None, None
    while True:
        running = [worker for worker in workers if worker.poll() is None]
        if first is None:
            first = next((number for number, worker in enumerate(workers) if worker.returncode), None)
        if not running:
            return first
        if deadline is None and (signals or first is not None):
            deadline = time.monotonic() + _PATIENCE
        if deadline is not None and time.monotonic() > deadline:
            _kill(running)
        time.sleep(0.05)


def _kill(workers: Sequence[subprocess.Popen]) -> None:
    for worker in workers:
        worker.kill()  # nothing happens to one that has ended
        worker.wait()


@contextlib.contextmanager
def _signals_to(workers: Sequence[subprocess.Popen]) -> Iterator[list[int]]:
    """Passes signals on, and notes them."""
    signals: list[int] = []

    def pass_on(number, frame):
        signals.append(number)
        for worker in workers:
            worker.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_end(output, worker: int, lines: int = 20) -> None:
    output.seek(0)
    for line in output.read().decode(errors="replace").splitlines()[-lines:]:
        print(f"worker {worker}: {line}", file=sys.stderr)
