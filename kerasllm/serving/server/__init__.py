"""The embedded server: TensorFlow Serving's REST and gRPC protocol in this process."""
