"""gRPC, by grpcio: all four kinds of call, status, trailers and deadlines, in calm and while instances are killed."""

import json

import grpc
import pytest

from cluster import Calm, Faults


@pytest.fixture
def channel(cluster):
    # The authority chooses the service, as a name in DNS would.
    with grpc.insecure_channel(cluster.address, options=[("grpc.default_authority", "rpc")]) as channel:
        yield channel


def add(channel, timeout: float = 60, **asked):
    call = channel.unary_unary("/tests.Calculator/Add")
    return call.with_call(json.dumps(asked).encode(), timeout=timeout)


def numbers(count: int) -> list[bytes]:
    return [json.dumps(number).encode() for number in range(count)]


def every_kind(channel, rounds) -> None:
    for _ in rounds:
        answer, call = add(channel, a=3, b=4, ms=100)
        assert answer == b"7" and ("own-trailer", "1") in [tuple(pair) for pair in call.trailing_metadata()]
        total = channel.stream_unary("/tests.Calculator/Sum")
        assert total(iter(numbers(50)), timeout=60) == str(sum(range(50))).encode()


def test_calm(channel):
    every_kind(channel, Calm().rounds())
    assert list(channel.unary_stream("/tests.Calculator/Count")(b"20", timeout=60)) == numbers(20)
    assert list(channel.stream_stream("/tests.Calculator/Echo")(iter(numbers(50)), timeout=60)) == numbers(50)


def test_under_faults(cluster, channel):
    with Faults(cluster, "rpc").at_work() as faults:
        every_kind(channel, faults.rounds())
    cluster.settled("rpc")


def test_both_sides_speak_in_turn(channel):
    """Full duplex: the next message is sent when the last one has come back."""
    answered = []

    def turns():
        for number in numbers(10):
            yield number
            while not answered or answered[-1] != number:
                pass

    for message in channel.stream_stream("/tests.Calculator/Echo")(turns(), timeout=60):
        answered.append(message)
    assert answered == numbers(10)


def test_a_status_passes(channel):
    with pytest.raises(grpc.RpcError) as failed:
        add(channel, a=1, b=1, abort="not today")
    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "not today")


def test_a_deadline_holds(channel):
    with pytest.raises(grpc.RpcError) as failed:
        add(channel, a=1, b=1, ms=5000, timeout=0.5)
    assert failed.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert add(channel, a=1, b=1)[0] == b"2"
