"""A room that answers what is said in it."""

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse

app = FastAPI(title="Chat")

PAGE = """<!doctype html>
<title>Chat</title>
<h1>Chat</h1>
<ul id="heard"></ul>
<form><input id="said" autofocus> <button>Say</button></form>
<script>
  const room = new WebSocket(location.href.replace(/^http/, "ws") + "ws/you");
  room.onmessage = ({data}) => document.querySelector("#heard").append(
    Object.assign(document.createElement("li"), {textContent: data}));
  document.forms[0].onsubmit = () => { room.send(document.querySelector("#said").value); return false; };
</script>
"""


@app.get("/", response_class=HTMLResponse)
async def index() -> str:
    return PAGE


@app.get("/api/status")
async def status(request: Request) -> dict[str, str]:
    return {"status": "ok", "scheme": request.url.scheme, "client": request.client.host if request.client else ""}


@app.websocket("/ws/{name}")
async def room(socket: WebSocket, name: str) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_text(f"{name}, you said {await socket.receive_text()}")
    except WebSocketDisconnect:
        pass
