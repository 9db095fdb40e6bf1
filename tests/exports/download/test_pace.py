"""One pace for all threads: fewer when the server has had enough, and then slowly more."""

from __future__ import annotations

from threading import Event, Thread

import pytest

from exports.connection.transport import Patience
from exports.download.pace import Pace, Stopped

CALM = Patience(retries=2, first_wait=0.01, longest_wait=0.01)


def test_the_limit_is_halved_once_a_pause_and_raised_by_success() -> None:
    pace = Pace(8, CALM)
    assert [pace.slow_down(0.2), pace.slow_down(0.2), pace.allowed] == [True, True, 4]
    with pace.turn():
        assert pace.slow_down(0.01)
        assert pace.allowed == 2
    for _ in range(2):
        pace.succeeded()
    assert pace.allowed == 3
    for _ in range(3 + 4 + 5 + 6 + 7 + 100):
        pace.succeeded()
    assert pace.allowed == 8


def test_a_server_that_never_recovers_is_given_up() -> None:
    pace = Pace(4, CALM)
    told = []
    for _ in range(3):
        with pace.turn():
            told.append(pace.slow_down(None))
    assert told == [True, True, False]
    assert pace.allowed == 1


def test_success_between_the_pauses_makes_them_harmless() -> None:
    pace = Pace(4, CALM)
    for _ in range(9):
        with pace.turn():
            assert pace.slow_down(None)
            pace.succeeded()


def test_no_more_are_in_flight_than_allowed() -> None:
    pace, entered, leave = Pace(1, CALM), [Event(), Event()], Event()

    def work(mine: Event) -> None:
        with pace.turn():
            mine.set()
            leave.wait(10)

    threads = [Thread(target=work, args=(event,)) for event in entered]
    threads[0].start()
    assert entered[0].wait(10)
    threads[1].start()
    assert not entered[1].wait(0.05)
    leave.set()
    assert entered[1].wait(10)
    for thread in threads:
        thread.join()


def test_stopping_wakes_all_who_wait() -> None:
    pace, ended = Pace(1, CALM), []

    def wait_long() -> None:
        try:
            pace.wait(60)
        except Stopped:
            ended.append("wait")

    def queue() -> None:
        try:
            with pace.turn():
                raise AssertionError("it was not its turn")
        except Stopped:
            ended.append("turn")

    with pace.turn():
        threads = [Thread(target=wait_long), Thread(target=queue)]
        for thread in threads:
            thread.start()
        pace.stop()
        for thread in threads:
            thread.join(10)
    assert sorted(ended) == ["turn", "wait"]
    with pytest.raises(Stopped), pace.turn():
        pass
