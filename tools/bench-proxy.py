#!/usr/bin/env python3
"""Longshore beside nginx and HAProxy, on the same work, in interleaved rounds on this machine.

CPU is what all threads and processes of a proxy used (utime + stime) per 100,000 requests, as a multiple of nginx's in
the same run: absolute figures depend on the machine, ratios hardly. The upstream is one nginx that answers from memory
or from one file, and reads and drops what is posted to it. Only 127.0.0.1 is used, and only own processes are ended.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TICKS = os.sysconf("SC_CLK_TCK")
WORKLOADS = {
    "GET 2 KiB": ("/small", None),
    "POST 64 KiB": ("/post", 'wrk.method = "POST"\nwrk.body = string.rep("x", 65536)\n'),
    "GET 1 MiB": ("/large", None),
}

UPSTREAM = """
worker_processes 1; daemon off; pid {dir}/upstream.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{ access_log off; sendfile on; keepalive_requests 1000000000; client_max_body_size 10m;
  client_body_temp_path {dir}/u1; proxy_temp_path {dir}/u2; fastcgi_temp_path {dir}/u3; uwsgi_temp_path {dir}/u4;
  scgi_temp_path {dir}/u5;
  server {{ listen 127.0.0.1:{port} backlog=4096; root {dir};
    location = /small {{ return 200 "{small}"; }} location = /post {{ return 200 ok; }} location = /large {{ }} }} }}
"""
# A body of 64 KiB stays in memory, as it does in the others.
NGINX = """
worker_processes 2; daemon off; pid {dir}/nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; client_max_body_size 10m; client_body_buffer_size 128k;
  client_body_temp_path {dir}/n1; proxy_temp_path {dir}/n2; fastcgi_temp_path {dir}/n3; uwsgi_temp_path {dir}/n4;
  scgi_temp_path {dir}/n5;
  upstream model {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection ""; }} }} }}
"""
HAPROXY = """
global
  nbthread 2
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend in
  bind 127.0.0.1:{port}
  default_backend model
backend model
  http-reuse always
  server model 127.0.0.1:{upstream}
"""
LONGSHORE = """
[proxy]
listen = ["127.0.0.1:{port}"]
[admin]
listen = "127.0.0.1:{admin}"
[services.model]
addresses = ["127.0.0.1:{upstream}"]
concurrency = 0
[services.model.health]
path = "/small"
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A process and its children, listening on a port."""

    def __init__(self, name, port, command):
        self.name, self.port = name, port
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        sys.exit(f"error: {name} does not listen on 127.0.0.1:{port}")

    def pids(self):
        pid = self.process.pid
        tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
        children = [child for task in tasks for child in (task / "children").read_text().split()]
        return [pid, *map(int, children)]

    def cpu_seconds(self):
        total = 0
        for pid in self.pids():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def memory_mib(self):
        total = 0
        for pid in self.pids():
            match = re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())
            total += int(match.group(1)) if match else 0
        return total / 1024

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()


def wrk(port, path, script, seconds, connections):
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += ["-s", script] if script else []
    text = subprocess.run([*command, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True).stdout
    if re.search(r"Non-2xx|Socket errors", text):
        sys.exit(f"error: not every request was answered:\n{text}")
    return int(re.search(r"(\d+) requests in", text).group(1)), float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))


def latency_us(port, seconds, rate=1000):
    """The median time of one GET, one at a time, at a fixed rate."""
    stream = socket.create_connection(("127.0.0.1", port))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = b"GET /small HTTP/1.1\r\nHost: model\r\n\r\n"
    times, next_at = [], time.perf_counter()
    for _ in range(int(seconds * rate)):
        next_at += 1 / rate
        time.sleep(max(0, next_at - time.perf_counter()))
        begun, got = time.perf_counter(), b""
        stream.sendall(request)
        while b"\r\n\r\n" not in got or len(got) < got.index(b"\r\n\r\n") + 4 + 2048:
            piece = stream.recv(65536)
            if not piece:
                sys.exit("error: a connection was closed in the middle of an answer")
            got += piece
        times.append(time.perf_counter() - begun)
    stream.close()
    return statistics.median(times) * 1e6


def measure(servers, upstream, scripts, arguments):
    results = {name: {server.name: {"cpu": [], "rate": []} for server in servers} for name in WORKLOADS}
    latencies = {name: [] for name in ["direct", *(server.name for server in servers)]}
    for turn in range(arguments.rounds):
        print(f"round {turn + 1} of {arguments.rounds}", file=sys.stderr)
        for name, (path, _) in WORKLOADS.items():
            # Another order in each round, so that what comes and goes on the machine hits all alike.
            for server in servers[turn % len(servers):] + servers[:turn % len(servers)]:
                before = server.cpu_seconds()
                count, rate = wrk(server.port, path, scripts.get(name), arguments.seconds, arguments.connections)
                results[name][server.name]["cpu"].append((server.cpu_seconds() - before) / count * 1e5)
                results[name][server.name]["rate"].append(rate)
        latencies["direct"].append(latency_us(upstream.port, 1))
        for server in servers:
            latencies[server.name].append(latency_us(server.port, 1))
    return results, latencies


def report(servers, results, latencies):
    median = statistics.median
    print("| work | proxy | CPU s per 100,000 | × nginx | requests/s |\n| --- | --- | --- | --- | --- |")
    summary = {}
    for name, by_server in results.items():
        base = by_server["nginx"]["cpu"]
        for server, figures in by_server.items():
            # The ratio of each round, then the median: a slow moment hits neighbours.
            ratio = median(own / other for own, other in zip(figures["cpu"], base))
            summary[f"{name} {server}"] = {"cpu": median(figures["cpu"]), "ratio": ratio, "rate": median(figures["rate"])}
            print(f"| {name} | {server} | {median(figures['cpu']):.2f} | {ratio:.2f} | {median(figures['rate']):.0f} |")
    print("\n| proxy | added latency p50 at 1,000/s | memory after |\n| --- | --- | --- |")
    for server in servers:
        added = median(latencies[server.name]) - median(latencies["direct"])
        summary[f"latency {server.name}"] = {"added_us": added, "memory_mib": server.memory_mib()}
        print(f"| {server.name} | {added / 1000:.3f} ms | {server.memory_mib():.0f} MiB |")
    return summary


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", help="the longshore binary")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--out", default="bench-results/proxy.json")
    arguments = parser.parse_args()
    running = []
    with tempfile.TemporaryDirectory() as folder:
        # nginx's workers run as another user and read the file.
        os.chmod(folder, 0o755)
        pathlib.Path(folder, "large").write_bytes(b"x" * (1 << 20))

        def start(name, template, command, **values):
            port = free_port()
            file = pathlib.Path(folder, f"{name}.conf")
            file.write_text(template.format(dir=folder, port=port, **values))
            running.append(Server(name, port, [*command, str(file)]))
            return running[-1]

        try:
            upstream = start("upstream", UPSTREAM, ["nginx", "-c"], small="x" * 2048)
            servers = [
                start("nginx", NGINX, ["nginx", "-c"], upstream=upstream.port),
                start("haproxy", HAPROXY, ["haproxy", "-f"], upstream=upstream.port),
                start("longshore", LONGSHORE, [arguments.binary, "--log-level", "error", "up", "--backend", "process", "-c"],
                      upstream=upstream.port, admin=free_port()),
            ]
            scripts = {}
            for index, (name, (_, script)) in enumerate(WORKLOADS.items()):
                if script:
                    scripts[name] = str(pathlib.Path(folder, f"{index}.lua"))
                    pathlib.Path(scripts[name]).write_text(script)
            for server in servers:
                for name, (path, _) in WORKLOADS.items():
                    wrk(server.port, path, scripts.get(name), 1, arguments.connections)
            results, latencies = measure(servers, upstream, scripts, arguments)
            summary = report(servers, results, latencies)
            out = pathlib.Path(arguments.out)
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(summary, indent=2) + "\n")
        finally:
            for server in reversed(running):
                server.stop()


if __name__ == "__main__":
    main()
