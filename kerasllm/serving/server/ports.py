"""Whether a port can be had, found out before anything slow happens."""

import errno
import socket

from kerasllm.errors import ServingError

__all__ = ["check_port_free", "port_error"]


def port_error(port: int, option: str, host: str) -> ServingError:
    """Makes the error for a port that is taken."""
    return ServingError(
        f"Port {port} of {host} is in use by another program, perhaps another server. Stop that one, or "
        f"choose another port: `--{option} {port + 10}`."
    )


def check_port_free(host: str, port: int, option: str) -> None:
    """Binds a port for a moment.

    Args:
        host: Address to listen on.
        port: The port.
        option: Command line option that sets it, for the message.

    Raises:
        ServingError: If it is taken, or if the address is not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise port_error(port, option, host) from error
        raise ServingError(
            f"Cannot listen on {host} port {port}: {error.strerror or error}. Choose an address of this "
            "machine, such as 127.0.0.1, and a port from 1024 to 65535."
        ) from error
