"""A running `longshore up` over Python servers, and the fault script: whatever works is killed."""

import contextlib
import json
import os
import pathlib
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

CONFIG = """
name = "clients-{pid}"

[proxy]
listen = ["127.0.0.1:0"]
tls = {{ listen = ["127.0.0.1:0"], cert = "cert.pem", key = "key.pem" }}

[admin]
listen = "127.0.0.1:0"

[services.model]
image = "clients/model"
command = ["{python}", "{here}/servers/model.py"]
env = {{ CRASH_AFTER = "40" }}
health.path = "/healthz"
default = true
size = 3
restart.backoff = {{ initial = "100ms", max = "200ms" }}
replay.resume = true
# Faults here come faster than three in the time of a stream.
replay.attempts = 30

# What is upgraded is bound to its instance: this one does not crash by itself.
[services.socket]
image = "clients/socket"
command = ["{python}", "{here}/servers/model.py"]
health.path = "/healthz"
paths = ["/ws"]
size = 2
restart.backoff = {{ initial = "100ms", max = "200ms" }}

[services.rpc]
image = "clients/rpc"
command = ["{python}", "{here}/servers/rpc.py"]
protocol = "h2c"
health.tcp = true
concurrency = 4
size = 2
restart.backoff = {{ initial = "100ms", max = "200ms" }}

[services.calc]
image = "longshore/model-server"
build = "{root}/images/model-server"
command = ["model-server", "calculator", "--fault-latency", "20ms", "--fault-crash-after", "100"]
health.path = "/healthz"
size = 3
"""


class Cluster:
    """The process and its addresses."""

    def __init__(self, folder: pathlib.Path, text: str = CONFIG) -> None:
        binary = os.environ.get("LONGSHORE_BIN", str(ROOT / "target/release/longshore"))
        self.certificate = certify(folder)
        self.has_tls = "tls = " in text
        config = folder / "cluster.toml"
        config.write_text(text.format(pid=os.getpid(), python=sys.executable, here=HERE, root=ROOT))
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [binary, "up", "--backend", "process", "-c", str(config)], stderr=log, stdin=subprocess.DEVNULL
            )
        try:
            self.find()
        except BaseException:
            self.process.kill()
            raise

    def find(self) -> None:
        """Waits until it serves and has what it wants."""
        self.address = self.said(r"serving requests on .*?http://([^\s,]+)")
        self.url = f"http://{self.address}"
        self.secure_address = self.said(r"serving requests on .*?https://([^\s,]+)") if self.has_tls else None
        self.admin = "http://" + self.said(r"admin API on http://([^\s,]+)")
        until(lambda: all(self.is_settled(service) for service in self.ask("/services")["services"]), 60)

    def said(self, pattern: str) -> str:
        def look():
            text = self.log.read_text()
            assert self.process.poll() is None, f"longshore up ended at once:\n{text}"
            return (found := re.search(pattern, text)) and found[1]

        return until(look, 30)

    def secure(self) -> "Secure":
        return Secure(self)

    @staticmethod
    def is_settled(service: dict) -> bool:
        states = [instance["state"] for instance in service["instances"]]
        return len(states) == service["size"]["wanted"] and set(states) == {"ready"}

    def ask(self, path: str, method: str = "GET"):
        request = urllib.request.Request(self.admin + path, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            body = answer.read()
        return json.loads(body) if body.startswith(b"{") else body.decode()

    def counted(self, metric: str, service: str) -> float:
        lines = re.findall(rf'^{metric}\{{[^}}]*service="{service}"[^}}]*\}} (\S+)$', self.ask("/metrics"), re.M)
        return sum(float(value) for value in lines)

    def settled(self, service: str) -> None:
        until(lambda: self.is_settled(self.ask(f"/services/{service}")), 60)

    def stop(self) -> None:
        """It ends well, and nothing was lost."""
        services = [service["name"] for service in self.ask("/services")["services"]]
        lost = {service: self.counted("longshore_requests_lost_total", service) for service in services}
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        log = self.log.read_text()
        assert not any(lost.values()), f"requests were lost: {lost}\n{log}"
        assert code == 0, f"longshore up ended with {code}:\n{log}"
        errors = [line for line in log.splitlines() if " ERROR " in line]
        assert not errors, "\n".join(errors)


class Secure:
    """The same over TLS, for clients that believe its certificate."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.address = cluster.secure_address
        self.url = f"https://{self.address}"
        self.context = ssl.create_default_context(cafile=cluster.certificate)

    def __getattr__(self, name: str):
        return getattr(self.cluster, name)


def certify(folder: pathlib.Path) -> str:
    """A certificate for this machine, in the folder with its key."""
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    words = ["openssl", "req", *kind, "-subj", "/CN=localhost", "-addext", names, *files]
    subprocess.run(words, check=True, capture_output=True)
    return str(folder / "cert.pem")


def until(ask, limit: float):
    """Asks until there is an answer."""
    end = time.monotonic() + limit
    while not (answer := ask()):
        assert time.monotonic() < end, f"not within {limit} s"
        time.sleep(0.02)
    return answer


class Calm:
    """No faults: a client does its work a few times."""

    def __init__(self, times: int = 3) -> None:
        self.times = times

    def rounds(self):
        yield from range(self.times)


class Faults:
    """Kills what works, again and again, until requests were replayed."""

    REPLAYS = 1

    def __init__(self, cluster: Cluster, service: str) -> None:
        self.cluster, self.service = cluster, service
        self.before = self.replays()
        self.over = threading.Event()
        self.failure: BaseException | None = None

    def replays(self) -> float:
        return self.cluster.counted("longshore_replays_total", self.service)

    def rounds(self):
        """Goes on until there were enough replays, and once more."""
        end = time.monotonic() + 60
        number = 0
        while self.replays() - self.before < self.REPLAYS:
            assert time.monotonic() < end, f"too few replays: {self.log()}"
            yield number
            number += 1
        yield number

    def log(self) -> str:
        return self.cluster.log.read_text()[-2000:]

    def kill(self) -> None:
        try:
            while not self.over.wait(0.05):
                instances = self.cluster.ask(f"/services/{self.service}")["instances"]
                busy = [one["id"] for one in instances if one["state"] == "ready" and one["in_flight"]]
                ready = [one for one in instances if one["state"] == "ready"]
                # Once there is enough of it, what is long comes to its end.
                enough = self.replays() - self.before > self.REPLAYS + 1
                if busy and len(ready) > 1 and not enough:
                    with contextlib.suppress(urllib.error.HTTPError):
                        self.cluster.ask(f"/services/{self.service}/instances/{busy[0]}/kill", "POST")
                    self.over.wait(0.3)
        except BaseException as failure:
            self.failure = failure

    @contextlib.contextmanager
    def at_work(self):
        killer = threading.Thread(target=self.kill)
        killer.start()
        try:
            yield self
        finally:
            self.over.set()
            killer.join()
        assert self.failure is None, self.failure
