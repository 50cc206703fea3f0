"""The programs that Longshore's jobs are there for: servers that answer one request at a time and know nothing of jobs, and
the clients that were written for what used to stand before them."""

import re
import subprocess
import sys
import time

import pytest
import requests

from cluster import HERE, Cluster

CONFIG = """
name = "seeds-{pid}"

[proxy]
listen = ["127.0.0.1:0"]

[admin]
listen = "127.0.0.1:0"

# The client repeats its request until it is done; inputs are taken in a random order.
[services.factorizer]
image = "seeds/factorizer"
command = ["{python}", "{here}/servers/factorizer.py"]
paths = ["/factorize"]
size = 2
jobs.mode = "poll"
queue.order = "random"

# First in, first out; the page asks for a ticket.
[services.classification]
image = "seeds/classification"
command = ["{python}", "{here}/servers/classification/run.py"]
health.path = "/healthz"
default = true
size = 1
concurrency = 1
"""


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    running = Cluster(tmp_path_factory.mktemp("seeds"), CONFIG)
    try:
        yield running
    finally:
        running.stop()


def test_twenty_numbers_are_polled_until_all_are_done(seeds):
    """The program of the first example's README; nothing in it is changed but the URL."""
    program = (HERE / "seeds/twenty_numbers.py").read_text()
    assert program.count("http://localhost:8123") == 1
    program = program.replace("http://localhost:8123", seeds.url)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rounds = done.stdout.strip("\n").split("\n\n")
    assert len(rounds) > 1 and "= ..." in rounds[0], "the first answers are not the last ones"
    rows = rounds[-1].splitlines()
    assert len(rows) == 20, done.stdout
    for row in rows:
        number, factors = row.split(" = ")
        product = 1
        for factor in factors.split():
            prime, power = factor.split("^")
            product *= int(prime) ** int(power)
        assert product == int(number), row
    jobs = requests.get(f"{seeds.url}/_jobs?service=factorizer&limit=1000", timeout=60).json()["jobs"]
    assert len(jobs) <= 20, "identical input is one job"
    # The last answer has what the program does not look at, too.
    number = int(rows[0].split(" = ")[0])
    status = requests.post(f"{seeds.url}/factorize", json={"number": number}, timeout=60).json()
    assert status["done"] is True and status["number"] == number and status["load"] == 0
    assert status["factorization_str"] == rows[0].split(" = ")[1]


def submitted(seeds, **form):
    """As the page's form sends it: a ticket, at once."""
    begun = time.monotonic()
    answer = requests.post(f"{seeds.url}/classifications", data=form, headers={"Prefer": "respond-async"}, timeout=60)
    assert answer.status_code == 202, answer.text
    assert time.monotonic() - begun < 20
    ticket = answer.json()
    assert answer.headers["Location"].endswith(ticket["id"])
    return seeds.url + answer.headers["Location"], ticket


def page(url):
    answer = requests.get(url, headers={"Accept": "text/html,*/*;q=0.8"}, timeout=60)
    return answer.status_code, answer.text


def shown_until_it_ends(ticket):
    """The temporary screen, which looks again by itself until there is something else to show."""
    seen, end = [], time.monotonic() + 60
    while True:
        status, text = page(ticket)
        assert status == 200
        state = re.search(r"<body class=(\w+)>", text)[1]
        seen.append(state)
        if state not in ("queued", "running"):
            assert "http-equiv" not in text, "nothing more is to come"
            return seen, text
        assert re.search(r"http-equiv=.?refresh", text), text
        assert time.monotonic() < end, text
        time.sleep(0.1)


def test_a_form_is_submitted_and_its_ticket_shown(seeds):
    """The routes of the course on web servers, before a queue was built around them."""
    status, form = page(f"{seeds.url}/classifications")
    assert status == 200 and '<form method="POST">' in form
    info = requests.get(f"{seeds.url}/info", timeout=60).json()
    asked = [submitted(seeds, image=image, model=info["models"][0]) for image in info["images"] * 2]
    assert len({ticket["id"] for _, ticket in asked}) == len(asked)
    first, last = asked[0], asked[-1]
    positions = [ticket["position"] for _, ticket in asked]
    assert positions == sorted(positions), "first in, first out"
    assert first[1]["id"] in page(first[0])[1]
    seen, text = shown_until_it_ends(last[0])
    assert seen[0] == "queued" and seen[-1] == "done", seen
    link = re.search(r"href=.([^'\" >]*/result)", text)[1]
    status, result = page(seeds.url + link)
    assert status == 200 and result.count("<tr>") == 5, result
    assert f"class 0 of {info['images'][-1]} by resnet18" in result
    finished = [requests.get(url, timeout=60).json()["finished_at"] for url, _ in asked]
    assert finished == sorted(finished), "the first one that came was the first one served"


def test_what_the_course_leaves_as_practice(seeds):
    """A job that is not there, and one that has failed, are told apart, with an answer of their own."""
    unknown = requests.get(f"{seeds.url}/_jobs/{0:032x}/result", timeout=60)
    assert unknown.status_code == 404 and "there is no job" in unknown.json()["detail"]
    ticket, _ = submitted(seeds, image="n02085620.jpg", model="a model that is not there")
    seen, _ = shown_until_it_ends(ticket)
    assert seen[-1] == "failed"
    result = requests.get(f"{ticket}/result", timeout=60)
    assert result.status_code == 500 and "Internal Server Error" in result.text
