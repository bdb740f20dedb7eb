"""A server that answers as vLLM does, at exactly known times: the test peer of a load client."""

from forebay.mock.faults import parse_rule
from forebay.mock.laws import parse_law, seconds
from forebay.mock.mock_process import MockProcess, run
from forebay.mock.pages import Pulse
from forebay.mock.spec import MockSpec

__all__ = ["MockProcess", "MockSpec", "Pulse", "parse_law", "parse_rule", "run", "seconds"]
