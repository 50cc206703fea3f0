"""What the seed's routes import: the application, which knows nothing of jobs."""

from flask import Flask

app = Flask(__name__)

from app.routes import classifications, info  # noqa: E402, F401


@app.get("/healthz")
def healthz():
    return ""
