"""The sample application under the name that many a tutorial gives its file: `wsgi-file = test_flask.py`."""

from app import app

__all__ = ["app"]
