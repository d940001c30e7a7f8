"""What a user may say in a stack file, checked before anything is created."""

from schema.base import SettingsError
from settings.loader import configured, load, private_key, private_key_doubt, refused
from settings.site import SiteSettings
from settings.stack import StackSettings

__all__ = [
    "SettingsError",
    "SiteSettings",
    "StackSettings",
    "configured",
    "load",
    "private_key",
    "private_key_doubt",
    "refused",
]
