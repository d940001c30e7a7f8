"""A WSGI application without a framework: the rows of a table, and one more with each POST.

GET /         the names, a line each
POST /        name=… adds one
GET /healthz  asks the database, for the probe of a release
"""

import json
import os
from contextlib import closing
from urllib.parse import parse_qs

import pymysql


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


def application(environ, start_response):
    """Answer a request."""
    status, kind, text = answer(environ)
    body = text.encode()
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]


def answer(environ):
    method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "/")
    if path == "/healthz":
        query("SELECT 1")
        return "200 OK", "application/json", json.dumps({"status": "ok"})
    if path != "/":
        return "404 Not Found", "text/plain; charset=utf-8", "no such page\n"
    if method == "POST":
        form = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        (name,) = parse_qs(form.decode()).get("name", [""])[:1]
        if not 1 <= len(name) <= 100:
            return "400 Bad Request", "text/plain; charset=utf-8", "name: 1 to 100 characters\n"
        query("INSERT IGNORE INTO people (name) VALUES (%s)", name)
    rows = query("SELECT name FROM people ORDER BY id")
    return "200 OK", "text/plain; charset=utf-8", "".join("{}\n".format(name) for (name,) in rows)
