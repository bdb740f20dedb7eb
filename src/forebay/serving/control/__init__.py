"""What a fleet shares beside traffic: quotas, tenants, status, the way up from no replica."""

from forebay.serving.control.activator import LateActivator, in_proxy
from forebay.serving.control.fleet_status import FleetStatus, ask_routers, ask_scaling_log
from forebay.serving.control.floor_by_hand import NoServiceError, set_floor
from forebay.serving.control.live import LiveLine
from forebay.serving.control.quota_sync import FleetLedger, QuotaSync, start_ledger
from forebay.serving.control.shared_tenants import SharedTenants

__all__ = [
    "FleetLedger",
    "FleetStatus",
    "LateActivator",
    "LiveLine",
    "NoServiceError",
    "QuotaSync",
    "SharedTenants",
    "ask_routers",
    "ask_scaling_log",
    "in_proxy",
    "set_floor",
    "start_ledger",
]
