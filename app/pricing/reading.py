"""A price list out of YAML or JSON: numbers stay the digits that were written, nothing is executed."""

import json
from typing import Any, Final

import yaml
from pydantic import ValidationError

from app.core.errors import BadRequest, PriceListRefused, UnmeetableRules, UnsupportedMedia
from app.core.problems import pydantic_says
from app.pricing.schemas import PriceListIn

JSON_TYPES: Final = ("application/json",)
YAML_TYPES: Final = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")

_NOTHING: Final = ("", "~", "null", "Null", "NULL")


class _Digits(yaml.BaseLoader):
    """Every scalar is its text: 17.50 does not pass through a double. A key twice or an alias is an error."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            # a few of them unfold to billions of nodes
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not read", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        found = super().construct_mapping(node, deep=deep)
        if len(found) != len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key stands here twice", node.start_mark)
        return found

    def construct_yaml_null(self, _node: Any) -> None:
        return None


def _scalar(loader: _Digits, node: Any) -> str | None:
    text = loader.construct_scalar(node)
    # "" in quotes is a text, nothing at all is null
    return None if node.style is None and text in _NOTHING else str(text)


_Digits.add_constructor("tag:yaml.org,2002:str", _scalar)
_Digits.add_constructor("tag:yaml.org,2002:null", _scalar)


def read_price_list(content: bytes, media_type: str) -> PriceListIn:
    """The list in ``content``.

    Raises UnsupportedMedia, BadRequest for what is no YAML or JSON, PriceListRefused for what is no list,
    UnmeetableRules for a product that no polygon fits.
    """
    kind = media_type.split(";")[0].strip().lower()
    if kind in JSON_TYPES:
        raw = _json(content)
    elif kind in YAML_TYPES:
        raw = _yaml(content)
    else:
        raise UnsupportedMedia(f"A price list is sent as {', '.join((*JSON_TYPES, *YAML_TYPES[:1]))}.")
    return check(raw)


def check(raw: Any) -> PriceListIn:
    """A price list from what was read; raises PriceListRefused and UnmeetableRules."""
    try:
        found = PriceListIn.model_validate(raw)
    except ValidationError as error:
        errors = [
            {"loc": ["body", *item["loc"]], "detail": pydantic_says(item)}
            for item in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        first = errors[0]
        where = ".".join(str(step) for step in first["loc"])
        raise PriceListRefused(f"{where}: {first['detail']}", errors=errors) from None
    for number, product in enumerate(found.products):
        reason = product.unmeetable()
        if reason is not None:
            loc = ["body", "products", number, "rules"]
            raise UnmeetableRules(
                f"No polygon can meet the rules of {product.key}: {reason}.",
                errors=[{"loc": loc, "detail": reason}],
            )
    return found


def _json(content: bytes) -> Any:
    try:
        return json.loads(content, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"This is no JSON: {str(error)[:200]}") from None


def _yaml(content: bytes) -> Any:
    try:
        # _Digits makes texts, lists and mappings only
        return yaml.load(content, Loader=_Digits)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadRequest(f"This is no YAML: {' '.join(str(error).split())[:200]}") from None
