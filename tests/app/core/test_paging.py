"""Tokens of pages: each is read as what it was made of, and what nobody made is refused."""

from collections.abc import Callable
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import Unprocessable
from app.core.paging import (
    MOST_INTEGER,
    read_name,
    read_number,
    read_token,
    token_of,
    token_of_name,
    token_of_number,
)


@given(st.datetimes(timezones=st.just(UTC)), st.uuids(), st.integers(0, 10**15 - 1), st.text("aé-. 1"))
def test_a_token_is_read_as_what_it_was_made_of(at: object, row_id: object, number: int, name: str) -> None:
    assert read_token(token_of(at, row_id)) == (at, row_id)  # type: ignore[arg-type]
    assert read_number(token_of_number(number)) == number
    assert read_name(token_of_name(name)) == name


@pytest.mark.parametrize("read", [read_token, read_number, read_name])
@given(token=st.text(max_size=200) | st.text("WXYabcj0123_-=", max_size=40))
def test_a_token_of_nobodys_is_refused(read: Callable[[str], object], token: str) -> None:
    with pytest.raises(Unprocessable):
        read(token)


def test_a_list_reads_its_own_kind_of_token_alone() -> None:
    for read, other in ((read_number, token_of_name("7")), (read_name, token_of_number(7))):
        with pytest.raises(Unprocessable):
            read(other)
    with pytest.raises(Unprocessable):
        read_name(token_of_name("a\0"))


def test_a_number_that_its_column_cannot_hold_is_refused() -> None:
    assert read_number(token_of_number(MOST_INTEGER), MOST_INTEGER) == MOST_INTEGER
    with pytest.raises(Unprocessable):
        read_number(token_of_number(MOST_INTEGER + 1), MOST_INTEGER)
