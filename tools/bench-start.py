#!/usr/bin/env python3
"""How long a start takes: `longshore up`, and `docker run`, of the same static image, to the first answer; interleaved.

And how long a killed instance is missing: from the kill to the next instance that is ready.
"""

import argparse
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

IMAGE = "longshore/model-server"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until_answer(url, limit=60):
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=limit) as answer:
                return answer.read()
        except (urllib.error.URLError, ConnectionError, OSError):
            time.sleep(0.002)
    sys.exit(f"error: no answer from {url}")


def docker_run():
    name, port = f"bench-{os.getpid()}-{time.monotonic_ns()}", free_port()
    begun = time.monotonic()
    subprocess.run(["docker", "run", "-d", "--rm", "--name", name, "-p", f"127.0.0.1:{port}:8080", IMAGE],
                   check=True, stdout=subprocess.DEVNULL)
    until_answer(f"http://127.0.0.1:{port}/add/3/4")
    took = time.monotonic() - begun
    subprocess.run(["docker", "rm", "-f", name], check=True, stdout=subprocess.DEVNULL)
    return took


def longshore_up(binary, folder):
    port, admin = free_port(), free_port()
    file = pathlib.Path(folder, "cluster.toml")
    file.write_text(f'name = "bench-{os.getpid()}"\n[proxy]\nlisten = ["127.0.0.1:{port}"]\n'
                    f'[admin]\nlisten = "127.0.0.1:{admin}"\n[services.calc]\nimage = "{IMAGE}"\n'
                    'pull = "never"\n[services.calc.health]\npath = "/healthz"\n')
    begun = time.monotonic()
    process = subprocess.Popen([binary, "--log-level", "error", "up", "--backend", "docker", "-c", str(file)])
    try:
        until_answer(f"http://127.0.0.1:{port}/add/3/4")
        started = time.monotonic() - begun
        services = f"http://127.0.0.1:{admin}/services/calc"
        while json.loads(until_answer(services))["size"]["ready"] != 1:
            time.sleep(0.002)
        victim = json.loads(until_answer(services))["instances"][0]["id"]
        # One that dies sooner after its start is taken for one that fails, and backed off.
        time.sleep(1.5)
        pid = subprocess.run(["docker", "inspect", "-f", "{{.State.Pid}}", f"longshore-bench-{os.getpid()}-{victim}"],
                             check=True, capture_output=True, text=True).stdout
        begun = time.monotonic()
        # The server itself, not through the engine, whose own `kill` takes as long as a start.
        os.kill(int(pid), signal.SIGKILL)
        while not any(instance["state"] == "ready" and instance["id"] != victim
                      for instance in json.loads(until_answer(services))["instances"]):
            time.sleep(0.002)
        return started, time.monotonic() - begun
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", help="the longshore binary")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    runs, starts, replacements = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            runs.append(docker_run())
            started, replaced = longshore_up(arguments.binary, folder)
            starts.append(started)
            replacements.append(replaced)
    base = statistics.median(runs)
    print("| from … to the first answer | median | × docker run |\n| --- | --- | --- |")
    for name, times in (("docker run", runs), ("longshore up", starts), ("kill, to a new instance that is ready", replacements)):
        print(f"| {name} | {statistics.median(times) * 1000:.0f} ms | {statistics.median(times) / base:.2f} |")


if __name__ == "__main__":
    main()
