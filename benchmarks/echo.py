"""The limit of the HTTP stack: an ASGI app that reads a body and answers with bytes of a reconstruction's length."""

import sys

import uvicorn
from starlette.types import Receive, Scope, Send


def echo_app(answer: bytes) -> "EchoApp":
    """An app that answers every request with `answer`, once it has read the whole body."""
    return EchoApp(answer)


class EchoApp:
    """Nothing but HTTP."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reads the body, answers."""
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._answer})


if __name__ == "__main__":
    size, port = int(sys.argv[1]), int(sys.argv[2])
    uvicorn.run(echo_app(b"x" * size), port=port, loop="uvloop", http="httptools", log_level="warning", lifespan="off")
