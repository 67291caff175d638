"""`kerasllm serve`: exported models over REST and gRPC, with TF Serving's flag names."""

__all__ = ["command"]
