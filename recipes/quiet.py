"""Keeps TensorFlow's chatter off the terminal. Run as a script it is the filter: standard input to standard error.

What TensorFlow's libraries say while they are loaded passes by every setting of theirs, and by Python's `sys.stderr`.
So a filter stands before standard error, where libraries write, and `sys.stderr` goes on to the terminal. The filter is
a process of its own: what a crash leaves in the pipe still comes out.
"""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator

CHATTER = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"
    rb"|I0000 00:00:|[-\d]{10} [\d:.]{15}: I |INFO: "  # oneDNN is on, there is no GPU, XNNPACK is used, ...
    rb"|.* failed call to cuInit: .* \(303\)"  # there is no driver, so no GPU
    rb"|.* Unable to register cu\w+ factory"  # TensorFlow 2.20 with CUDA registers its libraries twice
    rb"|.* computation placer already registered"
    rb"|.* Input of \w+::Dataset will not be optimized"  # batches that Python makes
    rb"|.* Local rendezvous is aborting with status: (CANCELLED|OUT_OF_RANGE|INVALID_ARGUMENT)"  # a bad image
    rb"|\t \[\[\{\{"  # where in a graph that was
    rb"|fully_quantize: |.* Ignored (output_format|drop_control)|.* Skipping runtime version"  # TFLite's converter
)


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Everything else that is written to standard error comes through; with TF_CPP_MIN_LOG_LEVEL=0 the chatter too."""
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1") == "0":
        yield
        return
    terminal = os.dup(2)
    command = [sys.executable, "-IS", __file__]
    output = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # Ctrl-C is not for the filter
    python = os.fdopen(terminal, "w", 1, sys.stderr.encoding, "backslashreplace")
    with python, contextlib.redirect_stderr(python):
        os.dup2(output.stdin.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            output.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):  # a process that was started meanwhile still runs
                output.wait(1)


if __name__ == "__main__":
    for line in sys.stdin.buffer:
        if not CHATTER.match(line):
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
