"""Actors that must outlive every other node.

Nodes come and go with demand, and die. The head is the one whose loss ends the cluster anyway, and
Serve's controller is on it too.
"""

ON_THE_HEAD = {"node:__internal_head__": 0.001}  # Ray's own resource; a sliver of it uses up none
