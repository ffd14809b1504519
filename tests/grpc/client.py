"""An unmodified gRPC client: calls an xds:/// target and prints who answered, one name a line.

    GRPC_XDS_BOOTSTRAP=FILE client.py TARGET COUNT
"""
import sys

import grpc
import grpc.experimental

target, count = sys.argv[1], int(sys.argv[2])
credentials = grpc.xds_channel_credentials(grpc.experimental.insecure_channel_credentials())
call = grpc.secure_channel(target, credentials).unary_unary("/test.Any/Call")
for n in range(count):
    _, told = call.with_call(b"", timeout=10, wait_for_ready=n == 0)
    print(dict(told.initial_metadata()).get("x-app"), flush=True)
