"""Actors that must outlive every other node.

Nodes come and go with demand, and die. The head is the one whose loss ends the cluster anyway, and
Serve's controller is on it too.
"""

from __future__ import annotations

from typing import Any

_ON_THE_HEAD = {"node:__internal_head__": 0.001}  # Ray's own resource; a sliver of it uses up none


def on_the_head(actor: type, name: str, namespace: str, *made_with: object) -> Any:
    """A handle of the detached actor of this name; it is made if there is none.

    Raises:
        Exception: whatever Ray raises where its head does not answer.
    """
    import ray

    # Detached: a handle got by name does not keep an actor alive, and nobody's may be the one.
    # "DEFAULT": by no strategy at all, Ray would put it where a replica with an engine in it makes
    # it, in the placement group of that engine, which has no room and is on another node.
    return (
        ray.remote(actor)
        .options(
            name=name,
            namespace=namespace,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            resources=_ON_THE_HEAD,
            scheduling_strategy="DEFAULT",
        )
        .remote(*made_with)
    )
