"""Processes beside this one that play runs. Ctrl-C is for this process to handle, which then stops them quietly."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context


def calm() -> None:
    """Let the cyclic collector run seldom, as the gateway does: a twentieth of a run's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 50)


@contextmanager
def workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes; left by an error or an interrupt, they are stopped in the midst of what they do."""
    others = set(active_children())
    # A child that is spawned has no copy of this process's threads' locks.
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=calm)
    whole = False
    try:
        yield pool
        whole = True
    finally:
        if not whole:
            for child in set(active_children()) - others:
                child.terminate()
        pool.shutdown(cancel_futures=True)


@contextmanager
def deaf() -> Iterator[None]:
    """Processes that are begun within never hear of Ctrl-C (a terminal tells every process); this one does afterwards.

    A mask is inherited even by a child that has not yet come to any code of ours.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
