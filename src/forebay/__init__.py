"""Forebay serves a large language model to launch traffic and proves what it can carry."""

__version__ = "0.1.0"
