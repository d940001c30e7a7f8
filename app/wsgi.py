"""The sample application as `module = wsgi`, `callable = app`."""

from app import app

__all__ = ["app"]
