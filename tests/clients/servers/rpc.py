"""A gRPC server: all four kinds of call, without generated code. Messages are JSON."""

import json
import os
import time
from concurrent import futures

import grpc


def add(request: bytes, context: grpc.ServicerContext) -> bytes:
    asked = json.loads(request)
    time.sleep(asked.get("ms", 0) / 1000)
    if "abort" in asked:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, asked["abort"])
    context.set_trailing_metadata((("own-trailer", "1"),))
    return json.dumps(asked["a"] + asked["b"]).encode()


def count(request: bytes, _: grpc.ServicerContext):
    for number in range(json.loads(request)):
        time.sleep(0.01)
        yield json.dumps(number).encode()


def total(requests, _: grpc.ServicerContext) -> bytes:
    return json.dumps(sum(json.loads(request) for request in requests)).encode()


def echo(requests, _: grpc.ServicerContext):
    yield from requests


CALLS = {
    "Add": grpc.unary_unary_rpc_method_handler(add),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Sum": grpc.stream_unary_rpc_method_handler(total),
    "Echo": grpc.stream_stream_rpc_method_handler(echo),
}

if __name__ == "__main__":
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tests.Calculator", CALLS),))
    server.add_insecure_port(f"127.0.0.1:{os.environ['PORT']}")
    server.start()
    server.wait_for_termination()
