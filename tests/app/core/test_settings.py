"""Settings: one field a variable, whatever the environment says."""

from app.core.settings import get_settings
from app.releases.service import choose_card
from patchplan.supervise import environment


def test_an_empty_variable_is_as_good_as_none() -> None:
    usual = get_settings()
    empty = {f"PATCHPLAN_{name.upper()}": "" for name in type(usual).model_fields}
    kept = ("PATCHPLAN_DATABASE_URL", "PATCHPLAN_BROKER_URL", "PATCHPLAN_DATA_DIR", "PATCHPLAN_LOG_LEVEL")
    with environment({name: value for name, value in empty.items() if name not in kept}):
        assert get_settings() == usual
        assert choose_card(None).name
