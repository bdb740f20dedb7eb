"""A server that answers as vLLM does, at exactly known times: the test peer of a load client."""
