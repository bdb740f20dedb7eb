"""Names that several parts of serving, or Ray, share: nothing is imported here.

Renaming one of these breaks a running cluster, a client, or what Ray and HAProxy look for.
"""

INGRESS_DEPLOYMENT = "ForebayIngress"
SPEC_KEY = "forebay"  # where the spec travels in LLMConfig.experimental_configs

ACTOR_NAMESPACE = "forebay"
KV_NAMESPACE = b"forebay"  # of the keys in Ray's key-value store
KV_SPEC = b"service"

STATUS_PATH = "/forebay/status"
ROUTE_PATH = "/internal/route"  # where HAProxy asks which replica a request goes to

CLASS_HEADER = b"x-forebay-class"
# From the router: of the namespace that HAProxy strips from clients' requests.
CACHED_HEADER = b"x-serve-router-cached-tokens"
# Read by HAProxy's Lua and copied to the router; a hint for prefix affinity.
SESSION_HEADER = "x-session-id"

READING_PREFIX = "forebay_"  # of what Serve carries to the autoscaler beside its own counts

STATS_PERIOD_S = 0.5  # how often replicas publish to routers; Ray polls them
SCALING_PERIOD_S = 1.0  # between two decisions on a fleet's size


def scaling_actor(service: str) -> str:
    """The actor that keeps the log of scaling decisions."""
    return f"scaling:{service}"


def fleet_actor(service: str) -> str:
    """The actor that keeps the fleet's ledger of quotas."""
    return f"fleet:{service}"


def phase_key(service: str) -> bytes:
    """Where the latest replica says how far its start is."""
    return f"phase:{service}".encode()


def ledger_key(service: str) -> bytes:
    """Where the fleet's first ledger leaves its mark."""
    return f"ledger:{service}".encode()


def tenants_key(service: str) -> bytes:
    """Where the last good version of the tenants file is."""
    return f"tenants:{service}".encode()
