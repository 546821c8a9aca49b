"""Endpoints: whose a webhook is, and where its messages may go and where they never do."""

import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.core.errors import WebhookUrlRefused
from app.webhooks import addresses
from app.webhooks.addresses import AddressRefused, is_allowed, resolve
from app.webhooks.sending import NotDelivered, send
from app.webhooks.service import MOST_ENDPOINTS
from tests.app.webhooks.listening import PRODUCT, Listener, deliveries, draft, registered
from tests.conftest import KeyMaker
from tests.plans import ready_plan
from workers.delivering import DeliveryDesk


def test_a_webhook_is_its_organisations_own(
    client: TestClient, listener: Listener, home: None, api_key: KeyMaker
) -> None:
    hook = registered(client, listener.url, description="mine")
    assert hook["secret"].startswith("whsec_")
    [listed] = client.get("/v1/webhooks").json()["webhooks"]
    assert "secret" not in listed
    stranger = {"Authorization": f"Bearer {api_key(org='other')}"}
    buyer = {"Authorization": f"Bearer {api_key('acquire')}"}
    base = f"/v1/webhooks/{hook['id']}"
    assert client.get("/v1/webhooks", headers=stranger).json()["webhooks"] == []
    assert client.get(f"{base}/deliveries", headers=stranger).status_code == 404
    assert client.delete(base, headers=stranger).status_code == 404
    assert client.get("/v1/webhooks", headers=buyer).status_code == 403
    # another organisation's moves are not told
    ready = ready_plan(org="other")
    client.post("/v1/orders", json={"plans": [str(ready)], "product": PRODUCT}, headers=stranger)
    assert DeliveryDesk().work() == 0
    assert client.delete(base).status_code == 204
    assert client.delete(base).status_code == 404


def test_bad_webhooks(client: TestClient) -> None:
    for body in (
        {"url": "https://10.0.0.1/"},
        {"url": "http://example.com/"},
        {"url": "https://example.com/", "events": []},
        {"url": "https://example.com/", "events": ["order.lost"]},
        {"url": "https://example.com/", "secret": "mine"},
        {},
    ):
        assert client.post("/v1/webhooks", json=body).status_code == 422, body


def test_registering_many_at_once_makes_no_more_than_there_may_be(client: TestClient) -> None:
    def register(_: int) -> int:
        return client.post("/v1/webhooks", json={"url": "https://example.com/"}).status_code

    with ThreadPoolExecutor(40) as pool:
        answers = Counter(pool.map(register, range(40)))
    assert answers == {201: MOST_ENDPOINTS, 409: 40 - MOST_ENDPOINTS}


def test_redirects_are_not_followed(client: TestClient, listener: Listener, home: None) -> None:
    hook = registered(client, listener.url)
    listener.answers = [(307, {"location": "http://169.254.169.254/latest/meta-data"})]
    draft(client)
    DeliveryDesk().work()
    [one] = deliveries(client, hook)
    assert (one["state"], one["status"]) == ("waiting", 307)
    assert "redirect" in one["error"]
    assert len(listener.heard) == 1


def test_an_answer_that_hangs_is_cut_off(listener: Listener, home: None) -> None:
    listener.hold.clear()
    with pytest.raises(NotDelivered, match=r"within 0\.5 s"):
        send(listener.url, "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODk=", "m", "{}", 0.5)


PRIVATE = [
    "127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "224.0.0.1", "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1", "fd00::1", "ff02::1",
    "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1", "2001:0:a00:1::",
    "fec0::1", "feff::1", "3fff::1", "3fff:fff::1", "192.0.0.8", "192.0.0.192", "168.63.129.16",
    "::ffff:192.0.0.192",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_allowed(ip_address(address))
    shown = f"[{address}]" if ":" in address else address
    with pytest.raises(WebhookUrlRefused):
        addresses.check_url(f"https://{shown}/hook")


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "3fff:1000::1"])
def test_addresses_that_are(address: str) -> None:
    assert is_allowed(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "ftp://example.com/", "https://", "https:///x", "example.com", "https://a b/",
        "https://user@example.com/", "https://user:pw@example.com/", "https://example.com/#x",
        "https://example.com:0/", "https://example.com:99999/", "https://[::1/", "https://localhost/",
        "https://x.localhost/", "https://2130706433/", "https://0x7f.1/", "https://127.1/",
        "https://0177.0.0.1/", "https://ex\u00e4mple.com/", "https://example.com/\x00", "file:///etc/passwd",
        "https://a..b/x", "https://a..local/x", "https://.x/", "https://./", "https://x../",
        f"https://{'a' * 64}.example.com/", f"https://{'a.' * 127}com/",
    ],
)  # fmt: skip
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(WebhookUrlRefused):
        addresses.check_url(url)


@pytest.mark.parametrize("host", ["example.com", "example.com.", "a_b.example", f"{'a' * 63}.example.com"])
def test_names_that_a_host_may_have(host: str) -> None:
    assert addresses.check_url(f"https://{host}/hook")


@pytest.mark.parametrize("host", ["a..b", "a" * 64, ".x"])
def test_what_can_be_no_name_is_refused_and_not_delivered(host: str) -> None:
    with pytest.raises(AddressRefused, match="cannot be the name"):
        resolve(host, 443)
    with pytest.raises(NotDelivered, match="cannot be the name"):
        send(f"https://{host}/", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODk=", "m", "{}", 5)


def test_every_address_of_a_name_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(*given: str) -> None:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in given]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    answers("93.184.216.34", "93.184.216.35")
    assert [str(address) for address in resolve("hooks.example", 443)] == ["93.184.216.34", "93.184.216.35"]
    answers("93.184.216.34", "10.0.0.7")
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.7"):
        resolve("hooks.example", 443)
    with pytest.raises(NotDelivered, match=r"10\.0\.0\.7"):
        send("https://hooks.example/", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODk=", "m", "{}", 5)


def test_the_connection_goes_to_the_address_that_was_checked(
    listener: Listener, home: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a name that says something else every time it is asked
    asked: list[str] = []
    real_lookup = socket.getaddrinfo

    def changing(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if host != "rebinding.example":
            return real_lookup(host, port, *rest, **more)
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "10.0.0.7"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", changing)
    url = f"http://rebinding.example:{listener.server_port}/hook"
    assert send(url, "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODk=", "m", "{}", 5) == 204
    assert asked == ["rebinding.example"]
    [(headers, _)] = listener.heard
    assert headers["host"].startswith("rebinding.example")


def test_plain_http_is_for_named_networks_alone(home: None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(NotDelivered, match="may not go"):
        send("http://example.com/", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODk=", "m", "{}", 5)
