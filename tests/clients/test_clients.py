"""Real clients, unchanged, each in calm and while the instances under it are killed: they must not see a difference.

A client is a function that does its work once for each round and asserts what it gets; CLIENTS is the table of them.
"""

import asyncio
import hashlib
import json
import subprocess

import aiohttp
import httpx
import openai
import pytest
import requests
import websockets

from cluster import Calm, Faults

# Larger than a small body, and than a socket's buffers.
BODY = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(BODY).hexdigest()
PROMPT = "a stream of tokens that goes on although its server is gone"
ANSWER = "".join(f"{word[::-1]} " for word in PROMPT.split())


def over_tls(client):
    def secure(cluster, rounds):
        client(cluster.secure(), rounds)

    return secure


def is_secure(cluster) -> bool:
    return cluster.url.startswith("https:")


def requests_session(cluster, rounds):
    with requests.Session() as session:
        # Bundles of the environment would come before it.
        session.trust_env, session.verify = False, cluster.certificate
        for number in rounds:
            got = session.get(f"{cluster.url}/work/{number}", params={"ms": 150}, timeout=60)
            assert (got.status_code, got.json()["path"]) == (200, f"/work/{number}")
            assert got.headers["x-own"] == "1" and int(got.headers["Longshore-Attempts"]) >= 1
            got = session.post(f"{cluster.url}/work/post", data=BODY, timeout=60)
            assert (got.json()["length"], got.json()["sha256"]) == (len(BODY), DIGEST)
            # A generator is sent in chunks.
            got = session.put(f"{cluster.url}/work/put", data=(BODY[:1000] for _ in range(5)), timeout=60)
            assert got.json()["length"] == 5000
            assert session.get(f"{cluster.url}/redirect", timeout=60).json()["path"] == "/work/redirected"
            assert session.get(f"{cluster.url}/status/418", timeout=60).status_code == 418


def requests_proxy(cluster, rounds):
    with requests.Session() as session:
        session.trust_env = False
        session.proxies = {"http": cluster.url}
        for _ in rounds:
            assert session.get("http://calc/add/3/4", timeout=60).text == "7"
            assert session.post("http://calc.localhost/", data=BODY, timeout=60).json()["sha256"] == DIGEST
            got = session.get("http://model/work/x?ms=20", timeout=60)
            assert got.json()["host"] == "model"


def httpx_with(**options):
    def client(cluster, rounds):
        async def work():
            verify = cluster.context if is_secure(cluster) else True
            async with httpx.AsyncClient(timeout=60, trust_env=False, verify=verify, **options) as session:
                for number in rounds:
                    got = await session.get(f"{cluster.url}/work/{number}?ms=150")
                    assert (got.status_code, got.json()["path"]) == (200, f"/work/{number}")
                    assert got.http_version == ("HTTP/2" if options.get("http2") else "HTTP/1.1")
                    # Over HTTP/2 httpx may wait for ever for a window that it has, if another of its streams has read
                    # of it (github.com/pydantic/httpx2/issues/1133): what is larger than a window goes alone there.
                    together = [(0, 10, 60_000), (len(BODY),)] if options.get("http2") else [(0, 10, len(BODY))]
                    for sizes in together:
                        sent = [session.post(f"{cluster.url}/work/{size}", content=BODY[:size]) for size in sizes]
                        for got in await asyncio.gather(*sent):
                            assert got.json()["path"] == f"/work/{got.json()['length']}"

        asyncio.run(work())

    return client


def httpx_proxy(cluster, rounds):
    async def work():
        async with httpx.AsyncClient(proxy=cluster.url, timeout=60) as session:
            for _ in rounds:
                answers = await asyncio.gather(*(session.get(f"http://calc/add/{n}/4") for n in range(8)))
                assert [got.text for got in answers] == [str(n + 4) for n in range(8)]

    asyncio.run(work())


def aiohttp_session(cluster, rounds):
    async def work():
        connector = aiohttp.TCPConnector(ssl=cluster.context if is_secure(cluster) else True)
        async with aiohttp.ClientSession(connector=connector) as session:
            for number in rounds:
                async with session.get(f"{cluster.url}/work/{number}?ms=150") as got:
                    assert (got.status, (await got.json())["path"]) == (200, f"/work/{number}")
                async with session.post(f"{cluster.url}/work/post", data=BODY) as got:
                    assert (await got.json())["sha256"] == DIGEST
                async with session.post(f"{cluster.url}/work/post", data=BODY, expect100=True) as got:
                    assert (await got.json())["sha256"] == DIGEST
                if not is_secure(cluster):
                    async with session.get("http://calc/add/3/4", proxy=cluster.url) as got:
                        assert await got.text() == "7"

    asyncio.run(work())


def events(cluster, rounds):
    """Server-sent events, one by one and complete."""
    with httpx.Client(timeout=60, trust_env=False) as session:
        for _ in rounds:
            with session.stream("GET", f"{cluster.url}/events?count=20") as got:
                assert got.headers["content-type"].startswith("text/event-stream")
                data = [line[6:] for line in got.iter_lines() if line.startswith("data: ")]
            assert data == [f"token {number}" for number in range(20)]


def openai_client(cluster):
    own = {"http_client": httpx.Client(verify=cluster.context)} if is_secure(cluster) else {}
    return openai.OpenAI(base_url=f"{cluster.url}/v1", api_key="none", max_retries=0, timeout=60, **own)


def openai_whole(cluster, rounds):
    with openai_client(cluster) as client:
        assert [model.id for model in client.models.list()] == ["tiny"]
        for _ in rounds:
            got = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": PROMPT}])
            assert got.choices[0].message.content == ANSWER


def openai_stream(cluster, rounds):
    with openai_client(cluster) as client:
        for _ in rounds:
            messages = [{"role": "user", "content": PROMPT}]
            with client.chat.completions.create(model="tiny", messages=messages, stream=True) as stream:
                told = [piece.choices[0].delta.content or "" for piece in stream]
            assert ("".join(told), len(told)) == (ANSWER, len(PROMPT.split()) + 2)


def curl_with(*options, url="{url}/work/curl?ms=100", expect="/work/curl"):
    def client(cluster, rounds):
        for _ in rounds:
            words = [word.format(url=cluster.url, cert=cluster.certificate) for word in ("curl", "-sS", "--fail", "-m", "60", *options, url)]
            got = subprocess.run(words, input=BODY, capture_output=True, check=False)
            assert got.returncode == 0, (words, got)
            assert expect in got.stdout.decode(), got.stdout

    return client


TRUST = ("--cacert", "{cert}")
EXPECT = ("-H", "Expect: 100-continue", "--expect100-timeout", "30", "--data-binary", "@-")

# A client, and the service that is killed under it.
CLIENTS = {
    "requests": (requests_session, "model"),
    "requests-proxy": (requests_proxy, "calc"),
    "httpx-h1": (httpx_with(), "model"),
    "httpx-h2c": (httpx_with(http1=False, http2=True), "model"),
    "httpx-proxy": (httpx_proxy, "calc"),
    "aiohttp": (aiohttp_session, "model"),
    "openai": (openai_whole, "model"),
    "curl-1.0": (curl_with("--http1.0"), "model"),
    "curl-1.1": (curl_with("--http1.1"), "model"),
    "curl-1.1-post": (curl_with("--data-binary", "@-", expect=DIGEST), "model"),
    "curl-1.1-chunked": (curl_with("-H", "Transfer-Encoding: chunked", "--data-binary", "@-", expect=DIGEST), "model"),
    "curl-1.1-upload": (curl_with("-T", "-", expect=DIGEST), "model"),
    "curl-100-continue": (curl_with(*EXPECT, expect=DIGEST), "model"),
    "curl-h2c": (curl_with("--http2-prior-knowledge"), "model"),
    "curl-h2c-post": (curl_with("--http2-prior-knowledge", "--data-binary", "@-", expect=DIGEST), "model"),
    "curl-h2-upgrade": (curl_with("--http2"), "model"),
    "curl-proxy": (curl_with("-x", "{url}", url="http://calc/add/3/4", expect="7"), "calc"),
    "curl-host": (curl_with("-H", "Host: calc", url="{url}/add/3/4", expect="7"), "calc"),
    "requests-tls": (over_tls(requests_session), "model"),
    "httpx-h1-tls": (over_tls(httpx_with()), "model"),
    "httpx-h2-tls": (over_tls(httpx_with(http2=True)), "model"),
    "aiohttp-tls": (over_tls(aiohttp_session), "model"),
    "openai-tls": (over_tls(openai_whole), "model"),
    "openai-stream-tls": (over_tls(openai_stream), "model"),
    "curl-1.1-tls": (over_tls(curl_with("--http1.1", *TRUST)), "model"),
    "curl-h2-tls": (over_tls(curl_with("--http2", *TRUST, "-w", " over %{{http_version}}", expect=" over 2")), "model"),
    "curl-h2-tls-post": (over_tls(curl_with("--http2", *TRUST, "--data-binary", "@-", expect=DIGEST)), "model"),
    "curl-100-continue-tls": (over_tls(curl_with("--http1.1", *TRUST, *EXPECT, expect=DIGEST)), "model"),
    "events": (events, "model"),
    "openai-stream": (openai_stream, "model"),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_calm(cluster, name):
    client, _ = CLIENTS[name]
    client(cluster, Calm().rounds())


@pytest.mark.parametrize("name", CLIENTS)
def test_under_faults(cluster, name):
    client, service = CLIENTS[name]
    with Faults(cluster, service).at_work() as faults:
        client(cluster, faults.rounds())
    cluster.settled(service)


def refused_by_httpx(cluster, **options):
    with httpx.Client(timeout=30, trust_env=False, verify=cluster.context if is_secure(cluster) else True, **options) as session:
        got = session.post(f"{cluster.url}/", content=BODY, headers={"Longshore-Service": "nobody"})
    return got.status_code, got.json()["type"]


def refused_by_curl(cluster, *options):
    words = ["curl", "-sS", "-m", "30", *options, "-H", "Longshore-Service: nobody", "--data-binary", "@-", f"{cluster.url}/"]
    got = subprocess.run([*words, "-w", "%{http_code}"], input=BODY, capture_output=True, check=False)
    assert got.returncode == 0, got
    problem, status = got.stdout.decode().rsplit("\n", 1)
    return int(status), json.loads(problem)["type"]


REFUSED = {
    "httpx-h1": lambda cluster: refused_by_httpx(cluster),
    "httpx-h2c": lambda cluster: refused_by_httpx(cluster, http1=False, http2=True),
    "httpx-h2-tls": lambda cluster: refused_by_httpx(cluster.secure(), http2=True),
    "curl-1.1": lambda cluster: refused_by_curl(cluster, "--http1.1", "-H", "Expect:"),
    "curl-h2c": lambda cluster: refused_by_curl(cluster, "--http2-prior-knowledge"),
    "curl-h2-tls": lambda cluster: refused_by_curl(cluster.secure(), "--http2", "--cacert", str(cluster.certificate)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_reaches_a_client_that_still_sends(cluster, name):
    for _ in range(5):
        assert REFUSED[name](cluster) == (404, "urn:longshore:no-service")
