"""The word to stop is heard, even where Python swallows it."""

import os
import signal
import weakref

import pytest

from patchplan.stopping import SIGNALS, check_stop, stopped_by_signals


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_leaves_the_block(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    reached = False
    with stopped_by_signals():
        os.kill(os.getpid(), number)
        reached = True
    assert not reached
    assert signal.getsignal(number) == before


class Thing:
    """Something that can be weakly referred to."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_word_swallowed_by_a_callback_is_heard_at_the_next_check() -> None:
    swallowed = checked = False
    with stopped_by_signals():
        thing = Thing()
        reference = weakref.ref(thing, lambda _dead: os.kill(os.getpid(), signal.SIGTERM))
        del thing
        swallowed = reference() is None
        check_stop()
        checked = True
    assert swallowed
    assert not checked


def test_further_signals_do_not_disturb_the_way_out() -> None:
    tidied = False
    with stopped_by_signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            tidied = True
    assert tidied


def test_without_a_signal_nothing_happens() -> None:
    with stopped_by_signals():
        check_stop()
    check_stop()
