"""A thread pool of our own for kernels that release the interpreter lock.

numba's parallel loops are not used: with their ``workqueue`` layer two concurrent calls abort the
process, with ``omp`` a forked child dies.  Python threads survive both, and a forked child starts
its own.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import torch


class _Pool:
    """The process's workers, started on first use and replaced when more are needed."""

    def __init__(self):
        self.lock = Lock()
        self.workers = 0
        self.executor: ThreadPoolExecutor | None = None

    def get(self, workers: int) -> ThreadPoolExecutor:
        with self.lock:
            if self.executor is None or self.workers < workers:
                # The smaller pool, if any, finishes what others gave it and goes.
                self.executor = ThreadPoolExecutor(workers, thread_name_prefix="mvsplat")
                self.workers = workers
            return self.executor


_pool = _Pool()


def _forget_pool() -> None:
    global _pool
    _pool = _Pool()  # threads do not survive a fork; neither may a lock that one of them held


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def run_all(function: Callable[..., Any], jobs: Sequence[tuple]) -> list[Any]:
    """``[function(*job) for job in jobs]``, on at most ``torch.get_num_threads()`` threads.

    The calling thread works too.  If a job raises, the others finish before it is raised here.
    """
    threads = min(torch.get_num_threads(), len(jobs))
    if threads <= 1:
        return [function(*job) for job in jobs]
    results: list[Any] = [None] * len(jobs)
    queue = iter(range(len(jobs)))  # next() on it is atomic

    def work() -> None:
        for index in queue:
            results[index] = function(*jobs[index])

    futures = [_pool.get(threads - 1).submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        # Work that has not begun, because others keep the pool busy, is done by now.
        errors = [future.exception() for future in futures if not future.cancel()]
    for error in errors:
        if error is not None:
            raise error
    return results
