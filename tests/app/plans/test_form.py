"""What a plan may be asked for, and what not."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.plans.schemas import PlanForm


def test_every_field_is_optional() -> None:
    form = PlanForm.model_validate({})
    assert form.tags == {}
    assert form.bands is None


def test_fields_as_a_form_sends_them() -> None:
    form = PlanForm.model_validate(
        {
            "release": "tiny",
            "threshold": "0.25",
            "max_patches": "4",
            "bands": " 4, 3,2 ",
            "scale": "0.0001",
            "offset": "-0.1",
            "tile_size_m": "76.8",
            "price_per_km2": "12.50",
            "currency": "EUR",
            "tags": '{"team": "forest"}',
        }
    )
    assert form.bands == [4, 3, 2]
    assert form.price_per_km2 == Decimal("12.50")
    assert form.tags == {"team": "forest"}


@pytest.mark.parametrize(
    "fields",
    [
        {"threshold": "-0.1"},
        {"threshold": "1.1"},
        {"threshold": "nan"},
        {"threshold": "high"},
        {"threshold": ""},
        {"max_patches": "-1"},
        {"max_patches": "17"},
        {"max_patches": "1.5"},
        {"bands": "1,2"},
        {"bands": "0,1,2"},
        {"bands": "1,2,x"},
        {"bands": "1,2,3,4"},
        {"bands": ""},
        {"scale": "0"},
        {"scale": "inf"},
        {"offset": "nan"},
        {"tile_size_m": "0"},
        {"tile_size_m": "-5"},
        {"tile_size_m": "inf"},
        {"tile_size_m": "1e9"},
        {"price_per_km2": "12.50"},
        {"currency": "EUR"},
        {"price_per_km2": "-1", "currency": "EUR"},
        {"price_per_km2": "1e3", "currency": "EUR"},
        {"price_per_km2": "1", "currency": "XAU"},
        {"tags": "{"},
        {"tags": "[]"},
        {"tags": "null"},
        {"tags": '{"a": 1}'},
        {"tags": '{"a": {"b": "c"}}'},
        {"tags": '{"a": "b", "a": "c"}'},
        {"tags": '{"": "b"}'},
        {"tags": '{"a": "\\u0000"}'},
        {"tags": '{"a": "\\ud800"}'},
        {"tags": json.dumps({"k" * 65: "v"})},
        {"tags": json.dumps({"k": "v" * 257})},
        {"tags": json.dumps({str(number): "v" for number in range(33)})},
        {"tags": "[" * 30_000},
        {"release": "x" * 101},
        {"treshold": "0.5"},
    ],
)
def test_values_out_of_range_are_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        PlanForm.model_validate(fields)


@given(st.dictionaries(st.sampled_from(sorted(PlanForm.model_fields)), st.text(max_size=40)))
def test_any_text_is_either_understood_or_refused(fields: dict[str, str]) -> None:
    try:
        form = PlanForm.model_validate(fields)
    except ValidationError:
        return
    assert form.threshold is None or 0 <= form.threshold <= 1
    assert form.bands is None or min(form.bands) >= 1
