#!/usr/bin/env python3
"""Longshore's jobs beside Celery and RQ: the same function, the same Redis, the same clients, one run on this machine.

Every client is a process that submits its share one after the other and then reads every result. Longshore is asked over
HTTP and its function is a route of an HTTP server; the others are called as libraries in the client, as their users do.
CPU is what everything but the clients and Redis used (utime + stime, ended children too). Only 127.0.0.1 is used, and
only own processes are ended.
"""

import argparse
import contextlib
import http.client
import json
import multiprocessing
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TICKS = os.sysconf("SC_CLK_TCK")
TOOLS = pathlib.Path(__file__).resolve().parent
WORKERS = 2
LIMIT = 120

CLUSTER = """
name = "bench-{pid}"
[proxy]
listen = ["127.0.0.1:{port}"]
[admin]
listen = "127.0.0.1:{admin}"
[jobs]
store = "{store}"
[services.work]
image = "bench/work"
command = ["{python}", "{tools}/bench_work.py"]
size = {workers}
concurrency = 4
health.path = "/healthz"
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, ask):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if (answer := ask()):
                return answer
        time.sleep(0.05)
    sys.exit(f"error: not within 30 s: {what}")


def family(pid):
    """A process and all below it that live."""
    with contextlib.suppress(OSError):
        yield pid
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def cpu_seconds(pids):
    total = 0
    for pid in {one for pid in pids for one in family(pid)}:
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += sum(int(field) for field in fields[11:15])
    return total / TICKS


def start(command, **options):
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)


def end(processes):
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


class Longshore:
    """Over HTTP, on one connection a client."""

    def __init__(self, binary, store):
        self.binary, self.store = binary, store
        self.name = f"Longshore, {store.split(':')[0]} store"

    def start(self, folder, redis, workers):
        self.workers, self.port, self.admin = workers, free_port(), free_port()
        store = redis.url if self.store == "redis:" else self.store + str(pathlib.Path(folder, f"store-{self.port}"))
        file = pathlib.Path(folder, "cluster.toml")
        file.write_text(CLUSTER.format(pid=os.getpid(), port=self.port, admin=self.admin, store=store,
                                       python=sys.executable, tools=TOOLS, workers=workers))
        self.processes = [start([self.binary, "--log-level", "error", "up", "--backend", "process", "-c", str(file)])]
        wait_for("longshore is ready", self.is_ready)

    def is_ready(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        connection.request("GET", "/services/work")
        return json.loads(connection.getresponse().read())["size"]["ready"] == self.workers

    def client(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)

        def submit(a, b):
            connection.request("POST", "/work", json.dumps({"a": a, "b": b}),
                               {"Content-Type": "application/json", "Prefer": "respond-async"})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 202, body
            return answer.headers["Location"]

        def result(job):
            connection.request("GET", f"{job}/result?wait={LIMIT}s")
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, body
            return json.loads(body)

        return submit, result


class Celery:
    """Its defaults: a pool of processes, results in the same Redis."""

    name = "Celery + Redis"

    def start(self, folder, redis, workers):
        os.environ["BENCH_REDIS"] = redis.url
        worker = [sys.executable, "-m", "celery", "-A", "bench_work:tasks", "worker", "-c", str(workers), "-l", "ERROR"]
        self.processes = [start(worker, cwd=TOOLS)] if workers else []

    def client(self):
        sys.path.insert(0, str(TOOLS))
        import bench_work

        return bench_work.task.delay, lambda job: job.get(timeout=LIMIT)


class Rq:
    """Its default worker forks for each job; its simple one does not."""

    def __init__(self, kind):
        self.kind = kind
        self.name = {"Worker": "RQ", "SimpleWorker": "RQ, SimpleWorker"}[kind]

    def start(self, folder, redis, workers):
        self.url = redis.url
        worker = [sys.executable, "-m", "rq.cli", "worker", "-q", "-u", redis.url, "-w", f"rq.worker.{self.kind}", "work"]
        self.processes = [start(worker, cwd=TOOLS) for _ in range(workers)]

    def client(self):
        sys.path.insert(0, str(TOOLS))
        import redis
        import rq

        queue = rq.Queue("work", connection=redis.Redis.from_url(self.url, socket_timeout=None))
        return lambda a, b: queue.enqueue("bench_work.work", a, b), lambda job: job.latest_result(timeout=LIMIT).return_value


class Redis:
    """One for all, with its append-only file, synced every second (its default)."""

    def __init__(self, folder):
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process = start(["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                              "--appendonly", "yes"], cwd=folder)
        wait_for("Redis answers", lambda: socket.create_connection(("127.0.0.1", self.port), 1))

    def flush(self):
        subprocess.run(["redis-cli", "-p", str(self.port), "flushall"], check=True, stdout=subprocess.DEVNULL)


def client_main(contender, numbers, gate, pipe, reads):
    submit, result = contender.client()
    job = submit(0, 0)  # connected, imported, warm
    if reads:
        result(job)
    pipe.send("ready")
    gate.wait()
    begun, jobs, took = time.monotonic(), [], []
    for number in numbers:
        at = time.monotonic()
        jobs.append((number, submit(number, 1)))
        took.append(time.monotonic() - at)
    submitted = time.monotonic()
    for number, job in jobs if reads else []:
        assert (answer := result(job)) == {"sum": number + 1}, answer
    pipe.send((begun, submitted, time.monotonic(), took))


def first_results(contender, pipe, count):
    submit, result = contender.client()
    result(submit(0, 0))
    took = []
    for number in range(count):
        at = time.monotonic()
        assert result(submit(number, 1)) == {"sum": number + 1}
        took.append(time.monotonic() - at)
        time.sleep(0.02)
    pipe.send(took)


def crowd_of(contender, jobs, clients, reads, before):
    """Clients that share the jobs and begin together, once `before` was called; what each of them tells."""
    gate = multiprocessing.Event()
    crowd = []
    for share in range(clients):
        mine, theirs = multiprocessing.Pipe()
        arguments = (contender, range(share, jobs, clients), gate, theirs, reads)
        crowd.append((multiprocessing.Process(target=client_main, args=arguments), mine))
    for process, _ in crowd:
        process.start()
    assert all(pipe.recv() == "ready" for _, pipe in crowd)
    before()
    gate.set()
    answers = [pipe.recv() for _, pipe in crowd]
    for process, _ in crowd:
        process.join()
    return answers


@contextlib.contextmanager
def running(contender, redis, folder, workers):
    redis.flush()
    contender.start(folder, redis, workers)
    try:
        yield [process.pid for process in contender.processes]
    finally:
        end(contender.processes)


def submission(contender, redis, folder, jobs, clients):
    """Nobody works: what it takes to get rid of a job."""
    with running(contender, redis, folder, 0):
        answers = crowd_of(contender, jobs, clients, False, lambda: None)
    took = sorted(one for answer in answers for one in answer[3])
    return {
        "submitted_per_second": jobs / (max(one[1] for one in answers) - min(one[0] for one in answers)),
        "submit_p50_ms": took[len(took) // 2] * 1000,
        "submit_p99_ms": took[len(took) * 99 // 100] * 1000,
    }


def from_end_to_end(contender, redis, folder, jobs, clients):
    """One job at a time, then many until every result was read."""
    with running(contender, redis, folder, WORKERS) as pids:
        mine, theirs = multiprocessing.Pipe()
        alone = multiprocessing.Process(target=first_results, args=(contender, theirs, 50))
        alone.start()
        first = mine.recv()
        alone.join()
        cpu = []
        look = lambda: cpu.append((cpu_seconds(pids), cpu_seconds([redis.process.pid])))
        answers = crowd_of(contender, jobs, clients, True, look)
        look()
    return {
        "jobs_per_second": jobs / (max(one[2] for one in answers) - min(one[0] for one in answers)),
        "cpu_us_per_job": (cpu[1][0] - cpu[0][0]) / jobs * 1e6,
        "redis_cpu_us_per_job": (cpu[1][1] - cpu[0][1]) / jobs * 1e6,
        "first_result_ms": statistics.median(first) * 1000,
    }


def measure(*arguments):
    """One round of one contender."""
    return submission(*arguments) | from_end_to_end(*arguments)


COLUMNS = [
    ("submitted_per_second", "submitted/s", ".0f"), ("submit_p50_ms", "p50 ms", ".2f"), ("submit_p99_ms", "p99 ms", ".2f"),
    ("jobs_per_second", "jobs/s to the result", ".0f"), ("cpu_us_per_job", "CPU µs/job", ".0f"),
    ("redis_cpu_us_per_job", "Redis µs/job", ".0f"), ("first_result_ms", "one job, ms", ".2f"),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--jobs", type=int, default=4000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="contenders whose name has this in it")
    options = parser.parse_args()
    contenders = [Longshore(options.binary, "redis:"), Longshore(options.binary, "file:"), Celery(), Rq("SimpleWorker"), Rq("Worker")]
    contenders = [one for one in contenders if not options.only or options.only in one.name]
    rows = {one.name: [] for one in contenders}
    with tempfile.TemporaryDirectory() as folder:
        redis = Redis(folder)
        try:
            for _ in range(options.rounds):
                for one in contenders:
                    # The one that forks for each job is slow: a share of the jobs shows it.
                    jobs = options.jobs // 10 if one.name == "RQ" else options.jobs
                    rows[one.name].append(measure(one, redis, folder, jobs, options.clients))
                    print(one.name, {key: round(value, 2) for key, value in rows[one.name][-1].items()}, file=sys.stderr)
        finally:
            end([redis.process])
    print(f"| | {' | '.join(title for _, title, _ in COLUMNS)} |")
    print("| --- |" + " ---: |" * len(COLUMNS))
    for name, rounds in rows.items():
        cells = [format(statistics.median(one[key] for one in rounds), shape) for key, _, shape in COLUMNS]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
