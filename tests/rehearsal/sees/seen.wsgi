"""A file that is no module by its name."""

from seen import application  # noqa: F401
