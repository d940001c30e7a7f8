"""A gallery of uploaded pictures."""

import os
from pathlib import Path

from flask import Flask
from flask_migrate import Migrate

from gallery.models import db
from gallery.pages import pages

BASE = Path(__file__).resolve().parent.parent


def create_app():
    app = Flask(__name__)
    app.config.from_mapping(
        SECRET_KEY=os.environ.get("SECRET_KEY", "development only"),
        SQLALCHEMY_DATABASE_URI="sqlite:///gallery.db",
        UPLOAD_FOLDER=str(BASE / "uploads"),
        REDIS_URL=os.environ.get("REDIS_URL", "redis://localhost:6379/0"),
        MAX_CONTENT_LENGTH=8 * 2**20,
    )
    Path(app.config["UPLOAD_FOLDER"]).mkdir(exist_ok=True)
    db.init_app(app)
    Migrate(app, db)
    app.register_blueprint(pages)
    return app
