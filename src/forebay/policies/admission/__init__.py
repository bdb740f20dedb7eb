"""The rule: admit or shed, and when to come again.

`AdmissionController` decides; promises, the long-prompt queue and backoff are parts of the rule.
"""

from forebay.policies.admission.backoff import Backoff
from forebay.policies.admission.controller import AdmissionController

__all__ = ["AdmissionController", "Backoff"]
