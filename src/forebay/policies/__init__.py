"""Pure decisions: no IO, no clock, no global randomness.

`now` (seconds on any monotonic clock) and randomness are passed in, so the same objects run in
production, in emulation and in simulation.
"""
