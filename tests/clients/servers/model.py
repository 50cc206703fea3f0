"""A model server as people write them: FastAPI under uvicorn. It is slow, works on one thing at a time, and says so when
it is given two. Every answer is the same for the same request, as a model's at temperature 0 is."""

import asyncio
import hashlib
import json
import os

import uvicorn
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, Response, StreamingResponse

# A server that leaks: it ends after so many answers, in the middle of the next one.
CRASH_AFTER = int(os.environ.get("CRASH_AFTER", "0"))

app = FastAPI()
at_work = 0
answered = 0


class Work:
    """One piece of work. While there is one there must be no other."""

    def __enter__(self) -> None:
        global at_work, answered
        at_work += 1
        answered += 1
        if at_work > 1:
            raise RuntimeError("two requests at once")
        if CRASH_AFTER and answered > CRASH_AFTER:
            os._exit(70)

    def __exit__(self, *_: object) -> None:
        global at_work
        at_work -= 1


@app.get("/healthz")
async def healthz() -> str:
    return "ok"


@app.api_route("/work/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def work(request: Request, ms: int = 20) -> Response:
    """What it was asked, as JSON, after so many milliseconds."""
    with Work():
        body = await request.body()
        await asyncio.sleep(ms / 1000)
        return JSONResponse(
            {
                "method": request.method,
                "path": request.url.path,
                "host": request.headers.get("host"),
                "length": len(body),
                "sha256": hashlib.sha256(body).hexdigest(),
                "accept": request.headers.get("accept"),
            },
            headers={"x-own": "1"},
        )


@app.get("/redirect")
async def redirect() -> Response:
    return Response(status_code=307, headers={"location": "/work/redirected"})


@app.get("/status/{status}")
async def status(status: int) -> Response:
    return JSONResponse({"error": status}, status_code=status)


@app.get("/events")
async def events(count: int = 20, ms: int = 20) -> StreamingResponse:
    """Server-sent events."""

    async def generate():
        with Work():
            for number in range(count):
                yield f"id: {number}\ndata: token {number}\n\n"
                await asyncio.sleep(ms / 1000)

    return StreamingResponse(generate(), media_type="text/event-stream")


def words(prompt: str) -> list[str]:
    return [f"{word[::-1]} " for word in prompt.split()]


def piece(delta: dict, reason: str | None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n"


@app.post("/v1/chat/completions")
async def chat(request: Request) -> Response:
    """As the OpenAI API has it: every word of the last message, backwards."""
    asked = await request.json()
    told = words(asked["messages"][-1]["content"])
    if asked.get("stream"):

        async def generate():
            with Work():
                yield piece({"role": "assistant", "content": ""}, None)
                for word in told:
                    await asyncio.sleep(0.02)
                    yield piece({"content": word}, None)
                yield piece({}, "stop")
                yield "data: [DONE]\n\n"

        return StreamingResponse(generate(), media_type="text/event-stream")
    with Work():
        await asyncio.sleep(0.02 * len(told))
        message = {"role": "assistant", "content": "".join(told)}
        usage = {"prompt_tokens": len(told), "completion_tokens": len(told), "total_tokens": 2 * len(told)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "tiny"}
        return JSONResponse({**answer, "choices": [choice], "usage": usage})


@app.get("/v1/models")
async def models() -> dict:
    return {"object": "list", "data": [{"id": "tiny", "object": "model", "created": 1, "owned_by": "tests"}]}


@app.websocket("/ws")
async def socket(websocket: WebSocket) -> None:
    """Sends back what it gets; `close CODE` closes."""
    await websocket.accept(subprotocol=websocket.headers.get("sec-websocket-protocol"))
    with Work():
        try:
            while True:
                message = await websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                if (text := message.get("text")) is None:
                    await websocket.send_bytes(message["bytes"])
                elif text.startswith("close "):
                    await websocket.close(int(text.split()[1]), "as asked")
                    return
                else:
                    await websocket.send_text(text)
        except WebSocketDisconnect:
            pass


if __name__ == "__main__":
    port = int(os.environ["PORT"])
    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="warning", timeout_keep_alive=2)
