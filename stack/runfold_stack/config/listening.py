"""Whether we may listen at an address, and if not, why: the address is a setting, so the answer names it."""

import errno
import socket

from runfold_stack.errors import BadSetting, PortTaken, StackError


def check_can_listen(who: str, host: str, port: int) -> None:
    """PortTaken or BadSetting if nobody could listen there now. Port 0 asks about the host alone."""
    try:
        with socket.socket(_family(host)) as probe:
            # As servers do: connections of a former life that linger in TIME_WAIT are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
    except OSError as error:
        raise can_not_listen(who, host, port, error) from None


def can_not_listen(who: str, host: str, port: int, error: OSError) -> StackError:
    """What the system's refusal means for the settings."""
    if error.errno == errno.EADDRINUSE:
        return PortTaken(who, host, port)
    if error.errno == errno.EACCES:
        return BadSetting(
            f"port {port} on {host}, asked for {who}: this user may not listen there; name one from 1024 on"
        )
    return BadSetting(f"RUNFOLD_HOST (--host) = {host!r}: {who} can't listen there: {error.strerror or error}")


def free_port(host: str) -> int:
    """A port that is free now."""
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
