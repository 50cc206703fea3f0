#!/usr/bin/env python3
"""100,000 jobs that wait: what the proxy takes of the memory, and how long it takes to serve again after SIGKILL.

The service has no instance, so that every job waits. Time is from the start of the process to its first answer about a
job that it had taken before. Only 127.0.0.1 is used, and only own processes are ended.
"""

import argparse
import http.client
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

CLUSTER = """
name = "backlog"
[proxy]
listen = ["127.0.0.1:{port}"]
[admin]
listen = "127.0.0.1:{admin}"
[jobs]
store = "{store}"
[services.work]
image = "nobody/needs-it"
command = ["true"]
size = 0
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def memory_mib(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return [int(re.search(rf"{field}:\s+(\d+)", status)[1]) / 1024 for field in ("VmRSS", "VmHWM")]


def ask(port, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def up(binary, config, port, path):
    """The process, and the seconds until it answers."""
    begun = time.monotonic()
    process = subprocess.Popen([binary, "--log-level", "error", "up", "--backend", "process", "-c", str(config)],
                               stdin=subprocess.DEVNULL)
    while time.monotonic() - begun < 120 and process.poll() is None:
        try:
            if ask(port, "GET", path)[0] == 200:
                return process, time.monotonic() - begun
        except OSError:
            pass
        time.sleep(0.005)
    sys.exit("error: longshore does not serve")


def submit(port, count, body, tickets):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for _ in range(count):
        connection.request("POST", "/work", body, {"Prefer": "respond-async", "Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 202:
            sys.exit(f"error: a job was answered with {answer.status}")
        tickets.append(answer.headers["Location"])


def measure(binary, folder, store, count, size):
    port, admin = free_port(), free_port()
    config = pathlib.Path(folder, f"cluster-{port}.toml")
    config.write_text(CLUSTER.format(port=port, admin=admin, store=store))
    process, _ = up(binary, config, port, "/_jobs?limit=1")
    try:
        empty, _ = memory_mib(process)
        body, tickets = json.dumps({"x": "y" * size}), []
        clients = [threading.Thread(target=submit, args=(port, count // 8, body, tickets)) for _ in range(8)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        if len(tickets) != count // 8 * 8:
            sys.exit("error: not every job was taken")
        full, peak = memory_mib(process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process, took = up(binary, config, port, tickets[0])
        again, again_peak = memory_mib(process)
        load = json.loads(ask(port, "GET", tickets[-1])[2])["load"]
        if load != len(tickets):
            sys.exit(f"error: {load} of {len(tickets)} jobs wait")
        return empty, full, peak, again, again_peak, took
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--bytes", type=int, default=1000, help="of each body")
    options = parser.parse_args()
    print("| store | RSS empty | with all of them | peak | after the crash | its peak | until it serves |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        redis = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", "socket", "--save", "", "--appendonly", "yes"],
                                 cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            time.sleep(1)
            for name, store in [("file", f"file:{folder}/store"), ("redis", f"unix://{folder}/socket")]:
                *memory, took = measure(options.binary, folder, store, options.jobs, options.bytes)
                print(f"| {name} | {' | '.join(f'{mib:.0f} MiB' for mib in memory)} | {took:.2f} s |", flush=True)
        finally:
            redis.terminate()
            redis.wait(30)


if __name__ == "__main__":
    main()
