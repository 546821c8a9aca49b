"""The main job as any client does it: plain HTTP, a key, and files."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx

from patchplan.demo.cut import Cut
from patchplan.demo.errors import DemoError

PATIENCE_S: Final = 3600
ANSWER_S: Final = 600
POLL_S: Final = 0.5
FILES_A_REQUEST: Final = 256
BYTES_A_REQUEST: Final = 256 * 1024 * 1024
"""One request for one purchase where it fits: 16-bit imagery is stretched over the first request's files."""

Json = dict[str, Any]


class Client:
    """Calls one service; ``idle`` runs whenever it waits. Every method raises DemoError."""

    def __init__(self, url: str, key: str, idle: Callable[[], None]) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=ANSWER_S, trust_env=False)
        self._idle = idle

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def plan(self, lr: Path, fields: dict[str, str]) -> Json:
        """Post an LR GeoTIFF and wait for its plan."""
        with lr.open("rb") as file:
            answer = self._ask("POST", "/v1/plans", files={"lr": (lr.name, file)}, data=fields, wait=10)
        return self._finished(answer)

    def geojson(self, plan: Json) -> str:
        """The plan's patches as GeoJSON."""
        path = f"/v1/plans/{plan['id']}"
        return self._ask("GET", path, headers={"Accept": "application/geo+json"}).text

    def send(self, plan: Json, cuts: Sequence[Cut], fields: dict[str, str]) -> Iterator[list[Json]]:
        """Post patches, some files at a time; yields each request's acquisitions.

        Where nothing in a request could be taken, one acquisition stands for it: its ``refused`` says why.
        """
        path = f"/v1/plans/{plan['id']}/acquisitions"
        for some in _requests(cuts):
            with ExitStack() as stack:
                files = [("files", (cut.path.name, stack.enter_context(cut.path.open("rb")))) for cut in some]
                answer = self._ask("POST", path, files=files, data=fields, allowed=("patches-refused",))
            found = answer.json()
            if answer.is_success:
                yield found["acquisitions"]
            else:
                yield [{"patches": [], "refused": found["refused"]}]

    def classify(self, plan: Json) -> Json:
        """What is there, from the patches received so far."""
        path = f"/v1/plans/{plan['id']}/classifications"
        return self._finished(self._ask("POST", path, json={"top_k": 3}, wait=10))

    def savings(self, group_by: str) -> Json:
        """The savings report."""
        found: Json = self._ask("GET", "/v1/reports/savings", params={"group_by": group_by}).json()
        return found

    def order(self, product: str, **source: Sequence[str]) -> Json | None:
        """A draft of what ``plans`` chose or ``classifications`` say to buy next; None where that is nothing
        worth ordering.
        """
        body = {**source, "product": product}
        answer = self._ask("POST", "/v1/orders", json=body, allowed=("nothing-to-order",))
        return dict(answer.json()) if answer.is_success else None

    def move(self, order: Json, to: str) -> Json:
        """Say that an order was placed, received or cancelled."""
        return dict(self._ask("POST", f"/v1/orders/{order['id']}/moves", json={"to": to}).json())

    def order_geojson(self, order: Json) -> str:
        """An order's polygons as GeoJSON."""
        headers = {"Accept": "application/geo+json"}
        return self._ask("GET", f"/v1/orders/{order['id']}", headers=headers).text

    def savings_page(self, **params: str) -> str:
        """The savings report as an HTML page."""
        return self._ask("GET", "/v1/reports/savings", params=params, headers={"Accept": "text/html"}).text

    def post_price_list(self, content: bytes) -> None:
        """Make a price list known, as YAML."""
        self._ask("POST", "/v1/price-lists", content=content, headers={"Content-Type": "application/yaml"})

    def find_product(self, product: str) -> None:
        """Look whether there is such a product: it is ordered only after everything was planned."""
        listed, _, rest = product.partition("/")
        key, _, version = rest.partition("@")
        if not (listed and key):
            raise DemoError(f"A product is named price-list/key, not {product!r}.")
        path = "/".join(
            ["/v1/price-lists", quote(listed, safe=""), *(["versions", version] if version else [])]
        )
        known = self._ask("GET", path).json()["keys"]
        if key not in known:
            raise DemoError(f"The price list {listed} has no product {key}; it has {', '.join(known)}.")

    def _finished(self, answer: httpx.Response) -> Json:
        """The finished plan or classification that was asked for: at once, or by asking where it is made."""
        deadline = time.monotonic() + PATIENCE_S
        place, found = answer.headers["Location"], answer.json()
        while found["status"] not in ("ready", "failed"):
            if time.monotonic() > deadline:
                raise DemoError(f"{place} is still {found['status']} after {PATIENCE_S} s.")
            self._idle()
            time.sleep(POLL_S)
            found = self._ask("GET", place).json()
        if found["status"] == "failed":
            raise DemoError(f"{place} failed: {found['error']['detail']}")
        return dict(found)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        wait: int | None = None,
        allowed: Sequence[str] = (),
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> httpx.Response:
        wish = {} if wait is None else {"Prefer": f"wait={wait}"}
        try:
            answer = self._http.request(method, path, headers={**wish, **(headers or {})}, **options)
        except httpx.HTTPError as error:
            raise DemoError(f"{method} {path}: the service does not answer ({error}).") from error
        if answer.is_success:
            return answer
        try:
            problem = answer.json()
            slug, text = problem["type"].rsplit("/", 1)[-1], f"{problem['title']}. {problem['detail']}"
        except (ValueError, KeyError, TypeError):
            slug, text = "", answer.text[:500]
        if slug in allowed:
            return answer
        raise DemoError(f"{method} {path} was answered with {answer.status_code}: {text}")


def next_patches(classification: Json) -> dict[int, list[int]]:
    """What a second look says to buy, by tile; nothing of a release that looks once."""
    return {tile["tile"]: tile["buy_next"] for tile in classification["tiles"] if tile["buy_next"]}


def _requests(cuts: Sequence[Cut]) -> Iterator[list[Cut]]:
    some: list[Cut] = []
    size = 0
    for cut in cuts:
        more = cut.path.stat().st_size
        if some and (len(some) == FILES_A_REQUEST or size + more > BYTES_A_REQUEST):
            yield some
            some, size = [], 0
        some.append(cut)
        size += more
    if some:
        yield some
