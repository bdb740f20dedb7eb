"""How many more answers one replica has than the others: what makes its steps longer than theirs.

What a router sent is a fair sample of the work, and no more: answers turn out longer on one replica
than on another, and stay for as long as they take. A fleet that is evened out by what it was sent
alone has replicas with half as many answers again as others; there tokens come too late, or
requests are refused, while others have room. So replicas say how many they have.
"""

from __future__ import annotations

from collections.abc import Mapping

from forebay.policies.routing.replica_view import ReplicaView

_PRIOR = 3.0  # answers that every replica is thought to have besides: of a few, one is chance


def skew(views: Mapping[str, ReplicaView], routers: float) -> dict[str, float]:
    """The answers of each replica, over the mean of these.

    Args:
        views: the replicas, of which there is at least one.
        routers: requests of all routers for each one of this router. What was sent since a replica
            published is not in what it said, and the others sent as much.
    """
    told = {n: v.stats.ongoing for n, v in views.items() if v.stats is not None}
    # Where answers end within a publication, most of what was sent since has ended, too.
    most = sum(told.values()) / max(len(told), 1)
    have = {n: told[n] + min(routers * views[n].unseen, most) for n in told}
    # One that has told nothing yet has what it was sent, until that is as much as the others have.
    most = sum(have.values()) / max(len(have), 1)
    answers = {n: _PRIOR + have.get(n, min(routers * views[n].unseen, most)) for n in views}
    mean = sum(answers.values()) / len(answers)
    return {name: count / mean for name, count in answers.items()}
