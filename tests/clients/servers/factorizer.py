"""The model of the seed's first example, one request at a time, on $PORT."""

import json, os
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({})

    def do_POST(self):
        n = json.loads(self.rfile.read(int(self.headers["content-length"])))["number"]
        factors, rest, p = [], n, 2
        while rest > 1:
            power = 0
            while rest % p == 0:
                rest, power = rest // p, power + 1
            if power:
                factors.append([p, power])
            p += 1
        text = " ".join(f"{p}^{k}" for p, k in factors)
        self.answer({"factorization": factors, "factorization_str": text, "number": n})

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
