"""How long a client likes to wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.prefer import Wait, parse_wait


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [
        (None, Wait(5, None)),
        ([], Wait(5, None)),
        (["wait=2"], Wait(2, "wait=2")),
        (["wait=0"], Wait(0, "wait=0")),
        (["WAIT = 3"], Wait(3, "wait=3")),
        (['wait="4"'], Wait(4, "wait=4")),
        (["respond-async, wait=7"], Wait(7, "wait=7")),
        (["handling=lenient", "wait=8; x=y"], Wait(8, "wait=8")),
        (["wait=9", "wait=1"], Wait(9, "wait=9")),
        (["respond-async"], Wait(0, "respond-async")),
        (["wait=999999999"], Wait(60, "wait=60")),
        (["wait=-1"], Wait(5, None)),
        (["wait"], Wait(5, None)),
        (["wait=soon"], Wait(5, None)),
        (["wait=1.5"], Wait(5, None)),
        (["wait=٣"], Wait(5, None)),
    ],
)
def test_wishes(prefer: list[str] | None, expected: Wait) -> None:
    assert parse_wait(prefer, 5, 60) == expected


@given(st.lists(st.text(max_size=30), max_size=4))
def test_any_header_gives_a_wait_within_the_cap(prefer: list[str]) -> None:
    assert 0 <= parse_wait(prefer, 5, 60).seconds <= 60


def test_a_short_cap_holds_for_the_default_too() -> None:
    assert parse_wait(None, 5, 2) == Wait(2, None)


def test_what_was_heeded_is_said() -> None:
    assert parse_wait(["wait=2"], 5, 60).headers == {"Preference-Applied": "wait=2"}
    assert parse_wait(None, 5, 60).headers == {}
