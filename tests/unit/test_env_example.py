"""`.env.example` against the settings types."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast import config
from local.invoke import read_env_file

EXAMPLE = Path(__file__).parents[2] / ".env.example"
SETTINGS: list[type[config.Settings]] = [
    config.CreateCheckoutSettings,
    config.StripeWebhookSettings,
    config.CreateGenerationSettings,
    config.BabyseaCallbackSettings,
    config.SettleGenerationSettings,
    config.GetStatusSettings,
    config.RecoverySweepSettings,
    config.ManageAccountSettings,
    config.CleanUpSettings,
]
REQUIRED_SECRETS = {
    "SUPABASE_SECRET_KEY": "sb_secret_example_value",
    "STRIPE_API_KEY": "sk_test_example_value",
    "STRIPE_WEBHOOK_SECRET": "whsec_example_value_1",
    "BABYSEA_API_KEY": "bye_example_value",
    "BABYSEA_WEBHOOK_SECRET": "whsec_example_value_2",
}


def test_the_example_names_every_setting_and_nothing_else() -> None:
    """A setting that is added to a type is added to the example, one that is removed goes."""
    known = {name.upper() for settings in SETTINGS for name in settings.model_fields}

    assert set(read_env_file(EXAMPLE)) == known


def test_the_example_holds_no_secret() -> None:
    """Secrets have no default, not even in an example."""
    example = read_env_file(EXAMPLE)

    assert {name: example[name] for name in REQUIRED_SECRETS} == dict.fromkeys(REQUIRED_SECRETS, "")


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.__name__)
def test_the_example_with_secrets_filled_in_is_accepted(settings: type[config.Settings]) -> None:
    """Whoever fills in the secrets has a working configuration."""
    config.load(settings, read_env_file(EXAMPLE) | REQUIRED_SECRETS)


def test_every_setting_of_the_example_is_explained() -> None:
    """Each name is grouped under a heading, and each group is commented."""
    groups = EXAMPLE.read_text().split("# ---- ")[1:]

    assert len(groups) == 6
    assert all(group.count("\n# ") >= 1 or "(optional" in group for group in groups)
