"""A server of grpcio whose methods take and give bytes; it ends with its standard input."""

import sys
import threading
from concurrent import futures

import grpc

serving = threading.Event()
serving.set()


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    context.set_trailing_metadata((("x-trailing", metadata.get("x-extra", "none")), ("x-raw-bin", b"\x00\xff")))
    context.send_initial_metadata((("x-initial", "yes"),))
    return b"echo:" + request


def metadata(_request, context):
    return "\n".join(sorted(f"{key}={value!r}" for key, value in context.invocation_metadata())).encode()


def remaining(_request, context):
    return str(context.time_remaining()).encode()


def fail(_request, context):
    context.set_trailing_metadata((("x-why", "because"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: 100 % sure\u2026")


def slow(_request, context):
    ended = threading.Event()
    context.add_callback(ended.set)
    ended.wait(60)
    print("ended", flush=True)
    return b""


def health(_request, _context):
    return b"\x08\x01" if serving.is_set() else b"\x08\x02"


def stop_serving(_request, _context):
    serving.clear()
    return b""


def server_stream(request, _context):
    for number in range(int(request)):
        yield b"%d:" % number + b"x" * 10_000


def client_stream(requests, _context):
    sizes = [len(request) for request in requests]
    return b"%d messages, %d bytes" % (len(sizes), sum(sizes))


def both_streams(requests, _context):
    for request in requests:
        yield b"echo:" + request


UNARY = grpc.unary_unary_rpc_method_handler
METHODS = {
    "/test.Echo/Unary": UNARY(unary),
    "/test.Echo/Metadata": UNARY(metadata),
    "/test.Echo/Remaining": UNARY(remaining),
    "/test.Echo/Fail": UNARY(fail),
    "/test.Echo/Slow": UNARY(slow),
    "/test.Echo/StopServing": UNARY(stop_serving),
    "/test.Echo/ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "/test.Echo/ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "/test.Echo/BothStreams": grpc.stream_stream_rpc_method_handler(both_streams),
    "/grpc.health.v1.Health/Check": UNARY(health),
}


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return METHODS.get(details.method)


server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
server.add_generic_rpc_handlers((Handler(),))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
sys.stdin.read()
