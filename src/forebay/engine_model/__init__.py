"""One vLLM replica as arithmetic: its scheduler, its KV blocks, its prefix cache, its step times.

Nothing here computes a token, reads a clock or does IO. The emulated engine plays it in real time
behind the real HTTP app; the simulator plays thousands of them as fast as it goes. It follows
vLLM 0.29's v1 scheduler with `scheduling_policy=priority`; what it leaves out is listed in
docs/decisions/0009-engine-model.md.
"""
