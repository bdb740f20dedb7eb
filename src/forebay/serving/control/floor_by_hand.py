"""A floor set by hand, from outside: which cluster the service runs in, and its log."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from forebay.serving.cluster_kv import the_spec
from forebay.serving.names import ACTOR_NAMESPACE, scaling_actor


class NoServiceError(RuntimeError):
    """The service does not run, or does not scale."""


def set_floor(service: str, port: int, replicas: int, until: float, address: str | None) -> None:
    """Set a floor from outside; see `ScalingLog.set_floor`.

    Args:
        service: its name.
        port: where it answers: of several of this name on this machine it tells which.
        replicas: the floor.
        until: seconds since 1970.
        address: of its Ray cluster; None: whichever on this machine it runs in.

    Raises:
        NoServiceError: there is no cluster, or no such service in it, or one in several.
    """
    import ray

    if address in _gcs_addresses():
        _show_token()
    with _connected(address or _address_of(service, port)):
        try:
            log = ray.get_actor(scaling_actor(service), ACTOR_NAMESPACE)
            ray.get(log.set_floor.remote(replicas, until), timeout=10)
        except ValueError:
            message = f"no service {service!r} that scales runs on this cluster"
            raise NoServiceError(message) from None
        except ray.exceptions.RayError as error:
            message = f"the log of service {service!r} does not answer: {error}"
            raise NoServiceError(message) from error


def _address_of(service: str, port: int) -> str:
    """The Ray of this machine that the service runs in.

    Each service has one of its own, unless its file names one. Ray's "auto" takes any of them, or
    what RAY_ADDRESS names, which `forebay serve` does not look at.
    """
    found: dict[str, int] = {}
    for address in _addresses_here():
        with suppress(NoServiceError), _connected(address):  # others' may be of another version
            spec = the_spec()
            if spec is not None and spec.name == service:
                found[address] = spec.server.port
    at_port = [address for address, its_port in found.items() if its_port == port]
    if len(found) == 1 or len(at_port) == 1:
        return at_port[0] if at_port else next(iter(found))
    if not found:
        raise NoServiceError(f"no service {service!r} runs on this machine; name its Ray cluster")
    where = " or ".join(f"--address {address} (port {its})" for address, its in found.items())
    raise NoServiceError(f"service {service!r} runs more than once on this machine: write {where}")


def _addresses_here() -> list[str]:
    """Of each Ray on this machine; this user's token is shown to them."""
    _show_token()
    return sorted(_gcs_addresses())


def _gcs_addresses() -> Collection[str]:
    from ray._private.services import find_gcs_addresses

    found: Collection[str] = find_gcs_addresses()
    return found


def _show_token() -> None:
    """As Ray does by itself for "auto", and not for an address: a Ray of `serve` asks for it."""
    from ray._private.authentication.authentication_token_setup import (
        maybe_enable_token_auth_if_token_available,
    )

    logging.getLogger("ray").setLevel(logging.ERROR)  # or it says that it does so
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


@contextmanager
def _connected(address: str) -> Iterator[None]:
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        # Nobody there, another version of Ray, no address, no token.
        raise NoServiceError(f"no Ray cluster answers at {address}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()
