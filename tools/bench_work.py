"""The work of tools/bench-jobs.py: one function, behind an HTTP server for Longshore, in a worker for Celery and RQ."""

import json
import os


def work(a, b):
    """Trivial: what is measured is everything around it."""
    return {"sum": a + b}


async def app(scope, receive, send):
    """ASGI: the function as a route."""
    body = b""
    if scope["path"] == "/work":
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        body = json.dumps(work(**json.loads(body))).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def serve():
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), loop="uvloop", http="httptools",
                lifespan="off", access_log=False, log_level="warning")


if "BENCH_REDIS" in os.environ:
    import celery

    tasks = celery.Celery("bench", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
    task = tasks.task(work, name="work")

if __name__ == "__main__":
    serve()
