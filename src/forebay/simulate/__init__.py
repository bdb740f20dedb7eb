"""A fleet in virtual time, made of the objects that production runs.

Each replica is admission (`policies/`) in front of the engine model (`engine_model/`); a router
places requests, and a scaling policy says how many replicas there should be. No clock, no IO: an
hour of traffic takes seconds to minutes, and the same traffic and seed give the same figures. What
is left out stands in docs/decisions/0018-scaling-in-virtual-time.md.
"""
