"""Which media type a client gets."""

import pytest

from app.core.errors import NotAcceptable
from app.plans.accept import GEOJSON, JSON, best_of


@pytest.mark.parametrize(
    ("accept", "given"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/json", JSON),
        ("application/geo+json", GEOJSON),
        ("Application/Geo+JSON", GEOJSON),
        ("application/geo+json, application/json;q=0.5", GEOJSON),
        ("application/json;q=0.4, application/geo+json;q=0.5", GEOJSON),
        ("*/*;q=0.1, application/geo+json", GEOJSON),
        ("*/*, application/json;q=0", GEOJSON),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON),
    ],
)
def test_the_best_of_what_there_is(accept: str | None, given: str) -> None:
    assert best_of(accept, (JSON, GEOJSON)) == given


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "application/json;q=x", "image/*"])
def test_nothing_that_fits(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        best_of(accept, (JSON, GEOJSON))
