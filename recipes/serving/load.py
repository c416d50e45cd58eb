"""A small load test: some threads, each with one request under way, for some seconds."""

import collections
import dataclasses
import ipaddress
import itertools
import math
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable

from transports import RequestError


@dataclasses.dataclass(frozen=True)
class Report:
    """What a load test measured; latencies in milliseconds, from the call to its decoded answer."""

    seconds: float
    requests: int
    images_per_second: float
    p50: float | None
    p95: float | None
    p99: float | None
    errors: dict[str, int]


def is_loopback(target: str) -> bool:
    """Whether every address that the target's host stands for is this machine's own.

    Example:
    >>> is_loopback("grpc://127.0.0.1:8500"), is_loopback("http://192.0.2.1:8501")
    (True, False)
    """
    host = urllib.parse.urlsplit(target).hostname
    try:
        addresses = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address).is_loopback for address in addresses)


def percentile(values: list[float], share: float) -> float | None:
    """The smallest of the values that at least this share of them does not exceed; None where there are none.

    Example:
    >>> percentile([4.0, 1.0, 3.0, 2.0], 0.5)
    2.0
    """
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)] if values else None


def load_test(
    ask: Callable[[list[bytes]], object], batches: list[list[bytes]], concurrency: int, duration: float
) -> Report:
    """Asks without pause and without retries, and counts.

    Args:
        ask: sends one batch; raises `RequestError`.
        batches: what is sent, in turn.
        concurrency: the number of threads.
        duration: for how many seconds requests are begun.

    Example:
    >>> report = load_test(lambda images: None, [[b"..."]], concurrency=2, duration=0.01)
    >>> report.errors
    {}
    """
    latencies, images, errors = [], [], collections.Counter()  # appending is atomic
    turns, lock = itertools.cycle(batches), threading.Lock()
    start = time.monotonic()

    def worker():
        while (begin := time.monotonic()) < start + duration:
            with lock:
                batch = next(turns)
            try:
                ask(batch)
            except RequestError as failure:
                with lock:
                    errors[failure.code] += 1
                time.sleep(0.1)  # a server that is down is not to be hammered
            else:
                latencies.append(1000 * (time.monotonic() - begin))
                images.append(len(batch))

    threads = [threading.Thread(target=worker) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - start
    shares = {f"p{round(100 * share)}": percentile(latencies, share) for share in (0.5, 0.95, 0.99)}
    return Report(
        seconds=seconds,
        requests=len(latencies) + errors.total(),
        images_per_second=sum(images) / seconds,
        errors=dict(errors),
        **shares,
    )
