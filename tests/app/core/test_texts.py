"""Values that no JSON encoder writes."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.core.texts import unrun, utc


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_spreadsheet_runs_a_strangers_text(text: str) -> None:
    assert unrun(text) == "'" + text


@pytest.mark.parametrize("text", ["", "Acme", "a=1", "'=1"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert unrun(text) == text


def test_times_are_utc_whatever_their_zone() -> None:
    tokyo = datetime(2026, 1, 1, 8, 30, tzinfo=timezone(timedelta(hours=9)))
    assert utc(tokyo) == "2025-12-31T23:30:00Z"
    assert utc(tokyo.astimezone(UTC)) == utc(tokyo)
