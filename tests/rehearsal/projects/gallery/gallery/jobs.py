"""What the worker does."""

import hashlib
from pathlib import Path

from flask import current_app

from gallery.models import Picture, db


def checksum(number):
    picture = db.session.get(Picture, number)
    file = Path(current_app.config["UPLOAD_FOLDER"], f"{picture.id}-{picture.name}")
    picture.sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    db.session.commit()
