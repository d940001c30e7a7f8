from pathlib import Path

from flask import Blueprint, current_app, redirect, render_template, request, send_from_directory, url_for
from redis import Redis
from rq import Queue
from werkzeug.utils import secure_filename

from gallery.models import Picture, db

pages = Blueprint("pages", __name__)


@pages.get("/")
def index():
    return render_template("index.html", pictures=Picture.query.order_by(Picture.id).all())


@pages.post("/pictures")
def upload():
    file = request.files["file"]
    picture = Picture(name=secure_filename(file.filename) or "picture")
    db.session.add(picture)
    db.session.commit()
    file.save(Path(current_app.config["UPLOAD_FOLDER"], f"{picture.id}-{picture.name}"))
    Queue(connection=Redis.from_url(current_app.config["REDIS_URL"])).enqueue("gallery.jobs.checksum", picture.id)
    return redirect(url_for("pages.index"))


@pages.get("/uploads/<path:name>")
def uploaded(name):
    return send_from_directory(current_app.config["UPLOAD_FOLDER"], name)
