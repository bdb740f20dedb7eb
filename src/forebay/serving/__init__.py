"""Ray Serve and vLLM adapters: the only package that imports them."""
