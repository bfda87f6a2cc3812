"""The gRPC front: sockets, handlers that translate only, status codes, logs and metrics."""
