"""Why a server refuses a request: TensorFlow's status codes and what they are over HTTP and gRPC."""

__all__ = ["CODES", "HTTP_STATUS", "StatusError", "code_name"]

# Numbers of absl::StatusCode, which TensorFlow's errors and gRPC share.
CODES = {
    0: "OK",
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    15: "DATA_LOSS",
    16: "UNAUTHENTICATED",
}
HTTP_STATUS = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INTERNAL": 500,
    "DATA_LOSS": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


def code_name(number: int) -> str:
    """Returns the name of a status code's number; unknown numbers are `UNKNOWN`."""
    return CODES.get(number, "UNKNOWN")


class StatusError(Exception):
    """A request that gets an error for an answer; never leaves the server as an exception.

    Bytes of the request that are not UTF-8 and are quoted in the message are kept as surrogate escapes.

    Attributes:
        code: Name of the status, such as `"INVALID_ARGUMENT"`.
        message: Text for the client, as TensorFlow Serving words it.
    """

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
