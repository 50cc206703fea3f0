"""One request at a time, on $PORT."""

import os

from app import app

app.run("127.0.0.1", int(os.environ["PORT"]), threaded=False)
