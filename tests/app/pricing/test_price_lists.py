"""``/v1/price-lists``: versions that stay, a clear problem for every bad list, nobody else's prices."""

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from app.core.auth import get_or_create_organisation
from app.core.db import session_scope
from app.core.errors import PriceListExpired, UnknownProduct
from app.pricing.products import Product
from app.pricing.service import examples, find_product
from tests.conftest import KeyMaker

PRODUCT: dict[str, Any] = {
    "key": "archive",
    "name": "Archive",
    "vendor": "Example Imaging",
    "source": "made up",
    "currency": "EUR",
    "price_per_km2": "17.50",
    "min_polygon_km2": "0.5",
}
DAY = date(2026, 11, 22)


def price_list(**changes: Any) -> dict[str, Any]:
    return {"name": "ours", "products": [{**PRODUCT, **changes}]}


def post(client: TestClient, body: dict[str, Any]) -> Any:
    return client.post("/v1/price-lists", json=body)


def find(ref: str, on: date = DAY, org: str = "acme") -> Product:
    with session_scope() as session:
        return find_product(session, get_or_create_organisation(session, org).id, ref, on)


def test_every_version_stays_and_the_newest_is_meant(client: TestClient) -> None:
    first = post(client, price_list())
    assert first.status_code == 201, first.text
    assert first.json()["refs"] == ["ours/archive@1"]
    again = post(client, price_list())
    assert (again.status_code, again.json()) == (200, first.json())
    second = post(client, price_list(price_per_km2="16"))
    assert second.json()["version"] == 2
    assert client.get(first.headers["Location"]).json() == first.json()
    assert client.get("/v1/price-lists/ours").json() == second.json()
    versions = client.get("/v1/price-lists/ours/versions").json()
    assert [one["version"] for one in versions["versions"]] == [2, 1]
    assert find("ours/archive").base_price_per_km2 == Decimal(16)
    assert find("ours/archive@1").base_price_per_km2 == Decimal("17.50")
    assert find("ours/archive@1").ref == "ours/archive@1"


def test_convex_features_have_one_part(client: TestClient) -> None:
    """Several parts are not convex together, whatever the list says of parts (docs/pricing.md)."""
    parts = {"single_part": False}
    assert post(client, price_list(rules=parts | {"convex": True})).status_code == 201
    assert post(client, price_list(rules=parts) | {"name": "loose"}).status_code == 201
    assert find("ours/archive").rules.single_part
    assert not find("loose/archive").rules.single_part


def test_yaml_keeps_the_digits_that_were_written(client: TestClient) -> None:
    text = yaml.safe_dump(price_list()).replace("'17.50'", "17.100000000001")
    sent = {"Content-Type": "application/yaml"}
    answer = client.post("/v1/price-lists", content=text, headers=sent)
    assert answer.status_code == 201, answer.text
    assert answer.json()["products"][0]["price_per_km2"] == "17.100000000001"
    number = '{"name":"j","products":[' + json.dumps(PRODUCT).replace('"17.50"', "0.1000000000000001") + "]}"
    answer = client.post("/v1/price-lists", content=number, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert "12 digits" in answer.json()["detail"]


def test_lists_and_versions_go_from_page_to_page(client: TestClient) -> None:
    for name in ("a", "b", "c"):
        for price in ("1", "2", "3"):
            assert post(client, price_list(price_per_km2=price) | {"name": name}).status_code == 201
    page = client.get("/v1/price-lists", params={"limit": 2}).json()
    assert {one["name"] for one in page["examples"]} == set(examples())
    rest = client.get("/v1/price-lists", params={"limit": 2, "token": page["next"]}).json()
    names = [(one["name"], one["version"]) for one in page["price_lists"] + rest["price_lists"]]
    assert names == [("a", 3), ("b", 3), ("c", 3)]
    assert (rest["next"], rest["examples"]) == (None, [])
    page = client.get("/v1/price-lists/b/versions", params={"limit": 2}).json()
    rest = client.get("/v1/price-lists/b/versions", params={"limit": 2, "token": page["next"]}).json()
    assert [one["version"] for one in page["versions"] + rest["versions"]] == [3, 2, 1]
    for path in ("/v1/price-lists", "/v1/price-lists/b/versions"):
        assert client.get(path, params={"token": "x"}).status_code == 422


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"price_per_km2": "-1"}, "price-list-refused", "negative"),
    ({"price_per_km2": None}, "price-list-refused", "price_per_km2 or tiers"),
    ({"price_per_km2": "1e3"}, "price-list-refused", "decimal"),
    ({"price_per_km2": "NaN"}, "price-list-refused", "decimal"),
    ({"tiers": [{"price_per_km2": "1"}]}, "price-list-refused", "either"),
    (
        {"price_per_km2": None, "tiers": [{"up_to_km2": "5", "price_per_km2": "1"}]},
        "price-list-refused",
        "last tier",
    ),
    (
        {
            "price_per_km2": None,
            "tiers": [
                {"up_to_km2": "5", "price_per_km2": "3"},
                {"up_to_km2": "4", "price_per_km2": "2"},
                {"price_per_km2": "1"},
            ],
        },
        "price-list-refused",
        "rising",
    ),
    ({"currency": "EURO"}, "price-list-refused", "ISO 4217"),
    ({"currency": "XAU"}, "price-list-refused", "minor unit"),
    ({"fixed_fee": "-5"}, "price-list-refused", "negative"),
    ({"vat_rate": "19"}, "price-list-refused", "share"),
    ({"vendor": None}, "price-list-refused", "vendor"),
    ({"source": ""}, "price-list-refused", "source"),
    ({"colour": "red"}, "price-list-refused", "colour"),
    ({"valid_from": "2026-02-01", "valid_to": "2026-01-01"}, "price-list-refused", "before"),
    ({"rules": {"max_vertices": 3}}, "unmeetable-rules", "corners"),
    ({"rules": {"min_width_m": 5_000_000}}, "unmeetable-rules", "wide"),
    ({"min_polygon_km2": "100000000"}, "unmeetable-rules", "large"),
]


def test_a_bad_list_is_refused_with_a_reason(client: TestClient) -> None:
    for changes, slug, said in BAD:
        answer = post(client, price_list(**changes))
        assert answer.status_code == 422, changes
        problem = answer.json()
        assert problem["type"] == f"/problems/{slug}", changes
        assert said in problem["detail"], changes
        assert problem["errors"][0]["loc"][:2] == ["body", "products"], changes
    assert client.get("/v1/price-lists").json()["price_lists"] == []


BODIES: list[tuple[str, bytes, int]] = [
    ("application/json", b"{", 400),
    ("application/json", b"[" * 100_000, 400),
    ("application/yaml", b"a: [", 400),
    ("application/yaml", b"\x00", 400),
    ("application/yaml", b"name: a\nname: b\n", 400),
    ("application/yaml", b"a: &x [1]\nb: [*x, *x]\n", 400),
    ("application/yaml", b"!!python/object/apply:os.system [ls]", 422),
    ("application/yaml", b"[" * 100_000, 400),
    ("application/yaml", b"", 422),
    ("application/json", b"null", 422),
    ("text/plain", b"name: a", 415),
    ("application/yaml", b"#" * 1_100_000, 413),
]


def test_a_body_that_is_no_list(client: TestClient) -> None:
    for media, content, status in BODIES:
        answer = client.post("/v1/price-lists", content=content, headers={"Content-Type": media})
        assert answer.status_code == status, (content[:20], answer.text)
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_prices_that_do_not_hold_today(client: TestClient) -> None:
    post(client, price_list(valid_from="2026-01-01", valid_to="2026-06-30"))
    assert find("ours/archive", date(2026, 6, 30)).key == "archive"
    for day in (date(2026, 7, 1), date(2025, 12, 31)):
        with pytest.raises(PriceListExpired, match="2026-01-01 to 2026-06-30"):
            find("ours/archive", day)
    with pytest.raises(PriceListExpired):
        find("example-tasking/last-year")


def test_products_that_are_not_there(client: TestClient) -> None:
    post(client, price_list())
    for ref in ("ours", "ours/x", "ours/archive@2", "none/archive", "../a/b", "ours/archive@0"):
        with pytest.raises(UnknownProduct):
            find(ref)


def test_an_organisation_sees_its_own_lists_only(client: TestClient, api_key: KeyMaker) -> None:
    post(client, price_list())
    other = {"Authorization": f"Bearer {api_key(org='other')}"}
    assert client.get("/v1/price-lists", headers=other).json()["price_lists"] == []
    for path in ("ours", "ours/versions", "ours/versions/1"):
        assert client.get(f"/v1/price-lists/{path}", headers=other).status_code == 404
    with pytest.raises(UnknownProduct):
        find("ours/archive", org="other")
    mine = client.post("/v1/price-lists", json=price_list(price_per_km2="99"), headers=other)
    assert mine.json()["version"] == 1


def test_only_an_admin_sets_prices(client: TestClient, api_key: KeyMaker) -> None:
    for scope in ("plan", "report", "acquire", "train"):
        headers = {"Authorization": f"Bearer {api_key(scope)}"}
        assert client.post("/v1/price-lists", json=price_list(), headers=headers).status_code == 403
        assert client.get("/v1/price-lists/example-archive", headers=headers).status_code == 200


def test_the_examples_say_what_they_are(client: TestClient) -> None:
    for name, listed in examples().items():
        shown = client.get(f"/v1/price-lists/{name}").json()
        assert shown["example"]
        assert len(shown["products"]) == len(listed.products)
        assert all("made up" in one["source"] or "https://" in one["source"] for one in shown["products"])
        assert post(client, price_list() | {"name": name}).status_code == 409


def test_a_product_survives_being_kept() -> None:
    for name, listed in examples().items():
        for one in listed.products:
            if one.valid_to is None:
                product = find_product_offline(name, one.key)
                assert Product.from_json(json.loads(json.dumps(product.to_json()))) == product


def find_product_offline(name: str, key: str) -> Product:
    from app.pricing.service import as_product

    return as_product(next(one for one in examples()[name].products if one.key == key), name, 1, None)
