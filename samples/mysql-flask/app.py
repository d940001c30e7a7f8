"""A Flask application with a table of names.

GET /         the names, one more with POST and name=…
GET /<name>   when a name was added
GET /healthz  asks the database, for the probe of a release
"""

import os
from contextlib import closing

import pymysql
from flask import Flask, abort, jsonify, redirect, render_template_string, request, url_for

PAGE = """<!doctype html>
<title>People</title>
<ul>{% for (name,) in rows %}<li><a href="{{ url_for('person', name=name) }}">{{ name }}</a>{% endfor %}</ul>
<form method="post"><input name="name" required maxlength="100"><button>Add</button></form>
"""

app = Flask(__name__)


def connect():
    """A connection to the database that the environment names."""
    return pymysql.connect(
        host=os.environ["MYSQL_HOST"],
        port=int(os.environ["MYSQL_PORT"]),
        user=os.environ["MYSQL_USER"],
        # As bytes: PyMySQL would take a text for Latin-1.
        password=os.environb[b"MYSQL_PASSWORD"],
        database=os.environ["MYSQL_DATABASE"],
        charset="utf8mb4",
        # With mysql.tls: over TLS, and only with the server that has this certificate.
        ssl={"ca": os.environ["MYSQL_SSL_CA"]} if "MYSQL_SSL_CA" in os.environ else None,
        connect_timeout=5,
        autocommit=True,
    )


def query(statement, *values):
    """Run one statement. Returns its rows."""
    with closing(connect()) as connection, connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


@app.route("/", methods=["GET", "POST"])
def people():
    if request.method == "POST":
        name = request.form.get("name", "")
        if not 1 <= len(name) <= 100:
            abort(400, "name: 1 to 100 characters")
        query("INSERT IGNORE INTO people (name) VALUES (%s)", name)
        return redirect(url_for("people"))
    return render_template_string(PAGE, rows=query("SELECT name FROM people ORDER BY id"))


@app.route("/<name>")
def person(name):
    rows = query("SELECT name, added FROM people WHERE name = %s", name)
    if not rows:
        abort(404)
    return "{} was added on {:%Y-%m-%d at %H:%M:%S}\n".format(*rows[0])


@app.route("/healthz")
def healthz():
    query("SELECT 1")
    return jsonify(status="ok")


if __name__ == "__main__":
    app.run()
