"""In front of the engine's app: who asks, what it costs, whether it is let in."""

from forebay.serving.gate.fleet_reports import Answer, ByClass, Report
from forebay.serving.gate.gate import Gate
from forebay.serving.gate.tenancy import Tenancy, key_of

__all__ = ["Answer", "ByClass", "Gate", "Report", "Tenancy", "key_of"]
