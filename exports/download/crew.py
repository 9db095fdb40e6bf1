"""A few threads that work off a list, and stop at the first failure."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Final, TypeVar

from exports.download.pace import Stopped

Item = TypeVar("Item")
Result = TypeVar("Result")

PARTING_SECONDS: Final = 2.0


def work_off(
    task: Callable[[Item], Result],
    items: Sequence[Item],
    threads: int,
    stop: Callable[[], None],
) -> Generator[Result, None, None]:
    """The results of `task` for all `items`, begun in their order, as they come.

    An error ends it all and is raised here; so does closing the iterator. `stop` is called then,
    and should make running tasks raise `Stopped`. A task that hangs in a socket is not waited
    for: it must do no harm once it wakes.
    """
    waiting: SimpleQueue[Item | None] = SimpleQueue()
    done: SimpleQueue[Result | _Failed] = SimpleQueue()
    crew = [Thread(target=_work, args=(task, waiting, done), daemon=True) for _ in range(threads)]
    for item in [*items, *(None for _ in crew)]:
        waiting.put(item)
    for worker in crew:
        worker.start()
    try:
        for _ in items:
            result = done.get()
            if isinstance(result, _Failed):
                raise result.error
            yield result
    except BaseException:
        stop()
        raise
    finally:
        deadline = time.monotonic() + PARTING_SECONDS
        for worker in crew:
            worker.join(max(0.0, deadline - time.monotonic()))


class _Failed:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def _work(
    task: Callable[[Item], Result],
    waiting: SimpleQueue[Item | None],
    done: SimpleQueue[Result | _Failed],
) -> None:
    while (item := waiting.get()) is not None:
        try:
            done.put(task(item))
        except Stopped:
            return
        except BaseException as error:
            done.put(_Failed(error))
            return
