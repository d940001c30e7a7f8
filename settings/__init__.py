"""What a user may say in a stack file, checked before anything is created."""

from settings.loader import configured, load, private_key, refused
from settings.models import Settings, SettingsError

__all__ = ["Settings", "SettingsError", "configured", "load", "private_key", "refused"]
