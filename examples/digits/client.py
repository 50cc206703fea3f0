#!/usr/bin/env python3
"""Sends pictures of digits through the proxy while instances are killed, and checks that none is lost.

Only the standard library is used: a model server behind Longshore is called like any other web server.
Exit code 1: a picture was not answered, or too many were taken for another digit.
"""

import argparse
import base64
import concurrent.futures
import json
import os
import pathlib
import sys
import threading
import time
import urllib.error
import urllib.request

PICTURES = pathlib.Path(__file__).parent / "images.json"
ACCURACY = 0.95


def classify(proxy: str, picture: dict) -> int:
    """The likeliest digit."""
    request = urllib.request.Request(
        f"{proxy}/predict", base64.b64decode(picture["png"]), {"Content-Type": "image/png"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)["classes"][0]["digit"]


class Killer:
    """Kills an instance through the admin API whenever so many more pictures were answered."""

    def __init__(self, admin: str, service: str, every: int, kills: int) -> None:
        self.url, self.every, self.kills = f"{admin}/services/{service}", every, kills
        self.killed: list[str] = []
        self.answered = 0
        self.counting = threading.Lock()
        self.killing = threading.Lock()

    def count_answer(self) -> None:
        """To be called after each answer; the other clients go on meanwhile, so that the kill hits their requests."""
        with self.counting:
            self.answered += 1
            due = min(self.answered // self.every, self.kills)
        if len(self.killed) < due and self.killing.acquire(blocking=False):
            try:
                self.kill()
            finally:
                self.killing.release()

    def kill(self) -> None:
        """Kills the busiest ready instance, as a fault would; without one, the next answer tries again."""
        instances = json.load(open_url(self.url))["instances"]
        ready = [instance for instance in instances if instance["state"] == "ready"]
        if ready:
            victim = max(ready, key=lambda instance: instance["in_flight"])["id"]
            open_url(urllib.request.Request(f"{self.url}/instances/{victim}/kill", method="POST")).close()
            self.killed.append(victim)


def open_url(request):
    """Asks the admin API."""
    return urllib.request.urlopen(request, timeout=30)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proxy", default="http://localhost:5000")
    parser.add_argument("--admin", default=os.environ.get("LONGSHORE_ADMIN", "http://localhost:5001"))
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--kills", type=int, default=2)
    options = parser.parse_args()

    pictures = json.loads(PICTURES.read_text())
    killer = Killer(options.admin, "digits", len(pictures) // (options.kills + 2), options.kills)
    lost: list[str] = []

    def send(picture: dict) -> bool:
        try:
            digit = classify(options.proxy, picture)
        except (OSError, ValueError, KeyError) as error:
            said = error.read().decode(errors="replace") if isinstance(error, urllib.error.HTTPError) else ""
            lost.append(f"{error} {said}".strip())
            return False
        killer.count_answer()
        return digit == picture["digit"]

    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(options.clients) as clients:
        try:
            right = sum(clients.map(send, pictures))
        except OSError as error:
            # Those of the pictures are caught above.
            sys.exit(f"no instance could be killed through {options.admin}: {error}")
    seconds = time.monotonic() - begun

    accuracy = right / len(pictures)
    answered = len(pictures) - len(lost)
    print(f"{len(pictures)} sent, {answered} answered, {len(lost)} lost, accuracy {accuracy:.3f}, {seconds:.1f} s")
    print(f"killed meanwhile: {', '.join(killer.killed) or 'none'}")
    for reason in sorted(set(lost)):
        print(f"lost: {reason}", file=sys.stderr)
    if len(killer.killed) < options.kills:
        print("no instance was ready to be killed", file=sys.stderr)
    passed = not lost and accuracy >= ACCURACY and len(killer.killed) == options.kills
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
