"""Independent tasks on the processes of this machine; what comes out does not depend on how many there are."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from snndeploy.errors import ConfigError, SnnDeployError

Task = TypeVar("Task")
Result = TypeVar("Result")

_PREPARED: ContextVar[Callable[[], Callable[[Any], Any]]] = ContextVar("_PREPARED")
"""Of a worker process, where it is set once and for all: gives what does a task, prepared when first asked."""


@dataclass(frozen=True)
class Failure:
    """Stands where the result of a task would, had an input not been wrong.

    message: Of the error that the task ended with.
    """

    message: str


def _silent(*_: Any) -> None: ...


def map_tasks(
    prepare: Callable[[], Callable[[Task], Result]],
    tasks: Sequence[Task],
    *,
    workers: int = 1,
    threads: int = 1,
    chunk: int = 1,
    on_result: Callable[[int, Result | Failure], None] = _silent,
) -> list[Result | Failure]:
    """Does tasks that need nothing of each other, in this process or in several that are started for it.

    A task that raises a SnnDeployError leaves a Failure and keeps no other from being done. With any other
    error, and when this process is interrupted or killed, the workers end at once.

    Args:
        prepare: Called once in every process that does tasks; gives the function that does one of them, so
            that data is loaded once. With several workers it, the tasks and the results are pickled, and what
            `prepare` is made of must be importable: `functools.partial(load_scorer, config)`.
        tasks: What is to be done.
        workers: Processes; 1 for this one, without a further one.
        threads: PyTorch's threads in each.
        chunk: Tasks handed to a worker at a time; more of them pay if each is short.
        on_result: Called in this process with the index of a task and its result, as soon as it is known, in
            any order.

    Returns:
        The results in the order of the tasks.

    Raises:
        ConfigError: `workers` or `chunk` is not positive, or a worker was killed.
        SnnDeployError: `prepare` cannot do its work.
    """
    for name, value in (("workers", workers), ("threads", threads), ("chunk", chunk)):
        if value < 1:
            raise ConfigError(name, "must be at least 1", got=value)
    chunks = [(start, tasks[start : start + chunk]) for start in range(0, len(tasks), chunk)]
    if workers == 1:
        done = _here(prepare, chunks, threads)
    else:
        done = _elsewhere(prepare, chunks, min(workers, len(chunks)), threads)
    found: dict[int, Result | Failure] = {}
    with closing(done):  # at once, whatever happens
        for index, result in done:
            found[index] = result
            on_result(index, result)
    return [found[index] for index in range(len(tasks))]


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Within it PyTorch computes with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Within it environment variables have other values, or are not there where the value is None.

    Processes that are started within it inherit them.
    """
    before = {name: os.environ.get(name) for name in changes}
    _set_environment(changes)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _here(
    prepare: Callable[[], Callable[[Task], Result]],
    chunks: Sequence[tuple[int, Sequence[Task]]],
    threads: int,
) -> Generator[tuple[int, Result | Failure], None, None]:
    if not chunks:
        return
    with using_threads(threads):
        work = prepare()
    for start, tasks in chunks:
        for index, task in enumerate(tasks, start):
            with using_threads(threads):  # not while the caller has the result
                result = _outcome(work, task)
            yield index, result


def _elsewhere(
    prepare: Callable[[], Callable[[Task], Result]],
    chunks: Sequence[tuple[int, Sequence[Task]]],
    workers: int,
    threads: int,
) -> Generator[tuple[int, Result | Failure], None, None]:
    if not chunks:
        return
    context = multiprocessing.get_context("spawn")  # a forked process would inherit PyTorch's threads, dead
    life, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, _begin, (life, prepare, threads))
    try:
        # OpenMP reads it as it is loaded, before anyone could call torch.set_num_threads.
        with environment({"OMP_NUM_THREADS": str(threads)}), _interrupts_held():
            starts = {pool.submit(_do_chunk, tasks): start for start, tasks in chunks}
            # The pool looks for dead workers among those it knew when it last woke up, and `submit` wakes it
            # before it starts one. So it is woken once more, or nobody would notice the end of the last.
            pool.submit(_silent)
        for future in as_completed(starts):
            yield from enumerate(future.result(), starts[future])
        pool.shutdown()
    except BrokenProcessPool:
        raise ConfigError(
            "workers",
            "a worker process was killed, as happens when there is not enough memory for all of them",
            remedy="go on with fewer workers; where there is --resume, what is done is kept",
        ) from None
    finally:
        ours.close()  # which ends every worker that is left
        pool.shutdown(cancel_futures=True)
        life.close()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until the end of it; processes started within it never notice Ctrl-C.

    A terminal sends it to all processes, and it is for the first one alone to say what becomes of the others.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(life: Connection, prepare: Callable[[], Callable[[Any], Any]], threads: int) -> None:
    """What a worker process does first."""
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()
    torch.set_num_threads(threads)
    _PREPARED.set(cache(prepare))


def _end_with(life: Connection) -> None:
    """Ends this process once the one that started it has closed its end of the pipe, or is gone."""
    life.poll(None)  # nothing is ever sent
    os.kill(os.getpid(), signal.SIGKILL)


def _do_chunk(tasks: Sequence[Any]) -> list[Any]:
    work = _PREPARED.get()()
    return [_outcome(work, task) for task in tasks]


def _outcome(work: Callable[[Task], Result], task: Task) -> Result | Failure:
    try:
        return work(task)
    except SnnDeployError as error:
        return Failure(str(error))
