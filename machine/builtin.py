"""What a server answers before its first release: 503 with Retry-After, for the probe too."""

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Waiting for its first release</title>
<style>body{font:18px/1.6 system-ui,sans-serif;max-width:32em;margin:20vh auto;padding:0 1em;color:#234}</style>
<h1>Installed, waiting for its first release</h1>
<p>nginx and uWSGI are running. The application has not been released to this server yet.</p>
<p lang="zh-CN">nginx 和 uWSGI 已经运行，应用的第一个版本尚未发布到这台服务器。</p>
</html>
""".encode()


def app(environ, start_response):
    """WSGI application (PEP 3333)."""
    start_response(
        "503 Service Unavailable",
        [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(PAGE))),
            ("Retry-After", "30"),
            ("Cache-Control", "no-store"),
        ],
    )
    return [PAGE]
