"""Serves the digits classifier: POST /predict with a picture, GET /healthz, GET /info."""

import os
import pathlib
import pickle

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from starlette.datastructures import UploadFile

import images

BEST = 5
MAX_BYTES = 16 * 1024 * 1024

with open(pathlib.Path(__file__).parent / "model.pkl", "rb") as file:
    # Written by train.py while this image was built.
    TRAINED = pickle.load(file)

app = FastAPI(title="digits", description="Which digit is in the picture?")

PICTURE = {"schema": {"type": "string", "format": "binary"}}
FORM = {"schema": {"type": "object", "required": ["file"], "properties": {"file": PICTURE["schema"]}}}


@app.post("/predict", openapi_extra={"requestBody": {"content": {"multipart/form-data": FORM, "image/png": PICTURE}}})
async def predict(request: Request) -> dict:
    """The five likeliest digits. The picture is the form field `file`, or the whole body."""
    try:
        levels = images.features(await picture(request))
    except images.NotAnImage as error:
        raise HTTPException(400, str(error)) from error
    model = TRAINED["model"]
    likely = sorted(zip(model.predict_proba([levels])[0], model.classes_, strict=True), reverse=True)
    return {"classes": [{"digit": int(digit), "probability": round(float(p), 4)} for p, digit in likely[:BEST]]}


async def picture(request: Request) -> bytes:
    """The bytes of the picture, wherever they are in the request."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await body(request)
    async with request.form(max_part_size=MAX_BYTES) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise HTTPException(400, "the form has no file named 'file'")
        return await file.read()


async def body(request: Request) -> bytes:
    """The body, unless it is too large to be a picture of a digit."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MAX_BYTES:
            raise HTTPException(413, f"more than {MAX_BYTES} bytes")
    return bytes(data)


@app.get("/healthz")
async def healthz() -> dict:
    """Ready: the model was loaded before the server listened."""
    return {"status": "ok"}


@app.get("/info")
async def info() -> dict:
    """What the model is, and its accuracy on the pictures it was not trained on."""
    return TRAINED["info"]


if __name__ == "__main__":
    uvicorn.run(app, host="0.0.0.0", port=int(os.environ.get("PORT", "8080")), access_log=False)
