"""How many more answers one replica has than the others: what makes its steps longer than theirs.

What a router sent is a fair sample of the work, and no more: answers turn out longer on one replica
than on another, and stay for as long as they take. A fleet that is evened out by what it was sent
alone has replicas with half as many answers again as others; there tokens come too late, or
requests are refused, while others have room. So replicas say how many they have.
"""

from __future__ import annotations

from collections.abc import Mapping

from forebay.policies.replica_view import ReplicaView

_PRIOR = 3.0  # answers that every replica is thought to have besides: of a few, one is chance


def crowds(views: Mapping[str, ReplicaView], routers: float) -> dict[str, float]:
    """The answers of each replica, over the mean of these.

    Args:
        views: the replicas, of which there is at least one.
        routers: requests of all routers for each one of this router. What was sent since a replica
            published is not in what it said, and the others sent as much.
    """
    told = {n: 0.0 if v.stats is None else v.stats.ongoing for n, v in views.items()}
    # Where answers end within a publication, most of what was sent since has ended, too.
    most = sum(told.values()) / len(told)
    answers = {n: _PRIOR + told[n] + min(routers * v.unseen, most) for n, v in views.items()}
    mean = sum(answers.values()) / len(answers)
    return {name: count / mean for name, count in answers.items()}
