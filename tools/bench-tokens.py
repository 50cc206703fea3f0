#!/usr/bin/env python3
"""What Longshore adds to the delay of each token of a stream (server-sent events).

A server of its own sends tokens at a pace, each with the time at which it was sent; clients in another process note when
each arrives, from the server directly and through the proxy, in turns. Only 127.0.0.1 is used, and only own processes are
ended. Exit 1 if the median of what is added is above the goal.
"""

import argparse
import asyncio
import json
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

# Milliseconds that may be added at the median.
GOAL = 2.0

CONFIG = """
[proxy]
listen = ["127.0.0.1:{port}"]
[admin]
listen = "127.0.0.1:{admin}"
[services.model]
addresses = ["127.0.0.1:{upstream}"]
concurrency = 0
health.path = "/healthz"
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


async def serve(port):
    """Tokens to whoever asks: /tokens/COUNT/INTERVAL_MS."""

    async def converse(reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                words = head.split(b" ")[1].decode().split("/")
                if words[1] != "tokens":
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    continue
                kind = b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                writer.write(b"HTTP/1.1 200 OK\r\n" + kind)
                for _ in range(int(words[2])):
                    await asyncio.sleep(int(words[3]) / 1000)
                    event = b"data: %d\n\n" % time.monotonic_ns()
                    writer.write(b"%x\r\n%s\r\n" % (len(event), event))
                writer.write(b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


async def stream(port, tokens, interval):
    """The delay of each token, in milliseconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /tokens/%d/%d HTTP/1.1\r\nHost: model\r\nConnection: close\r\n\r\n" % (tokens, interval))
    delays = []
    while len(delays) < tokens and (line := await reader.readline()):
        if line.startswith(b"data: "):
            delays.append((time.monotonic_ns() - int(line[6:])) / 1e6)
    writer.close()
    if len(delays) != tokens:
        sys.exit(f"error: {len(delays)} of {tokens} tokens arrived")
    return delays


async def streams(port, count, tokens, interval):
    begun = [asyncio.create_task(stream(port, tokens, interval)) for _ in range(count)]
    return [delay for delays in await asyncio.gather(*begun) for delay in delays]


def wait_for(url):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"error: nobody answers at {url}")


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def shown(values):
    return {"median_ms": round(statistics.median(values), 3), "p99_ms": round(percentile(values, 0.99), 3)}


def measure(ports, options):
    """Rows: how many streams at once, and the delays of both ways."""
    rows = []
    for count in options.streams:
        delays = {"direct": [], "proxied": []}
        for _ in range(options.rounds):
            for name, port in ports.items():
                delays[name] += asyncio.run(streams(port, count, options.tokens, options.interval))
        row = {"streams": count, **{name: shown(values) for name, values in delays.items()}}
        row["added"] = {key: round(row["proxied"][key] - row["direct"][key], 3) for key in row["direct"]}
        print(
            f"{count:4} streams: direct {row['direct']['median_ms']:.3f} ms (p99 {row['direct']['p99_ms']:.3f}), "
            f"proxied {row['proxied']['median_ms']:.3f} ms (p99 {row['proxied']['p99_ms']:.3f}), "
            f"added {row['added']['median_ms']:.3f} ms (p99 {row['added']['p99_ms']:.3f})",
            flush=True,
        )
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("longshore")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64], help="streams at once")
    parser.add_argument("--tokens", type=int, default=100, help="tokens of each stream")
    parser.add_argument("--interval", type=int, default=20, help="milliseconds between them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="the figures as JSON, too")
    options = parser.parse_args()
    upstream, port, admin = free_port(), free_port(), free_port()
    processes = []
    with tempfile.TemporaryDirectory(prefix="longshore-bench-") as folder:
        config = pathlib.Path(folder) / "cluster.toml"
        config.write_text(CONFIG.format(port=port, admin=admin, upstream=upstream))
        try:
            processes.append(subprocess.Popen([sys.executable, __file__, "--serve", str(upstream)]))
            wait_for(f"http://127.0.0.1:{upstream}/healthz")
            up = [options.longshore, "--log-level", "warn", "up", "-c", str(config)]
            processes.append(subprocess.Popen(up, stdin=subprocess.DEVNULL))
            wait_for(f"http://127.0.0.1:{port}/healthz")
            rows = measure({"direct": upstream, "proxied": port}, options)
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait(30)
    if options.json:
        print(json.dumps(rows, indent=2))
    if any(row["added"]["median_ms"] > GOAL for row in rows):
        sys.exit(f"error: more than {GOAL} ms are added at the median")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        try:
            asyncio.run(serve(int(sys.argv[2])))
        except KeyboardInterrupt:
            pass
    else:
        main()
