"""The tenants file: models, loading, editing, keys."""

from forebay.spec.tenants.tenant_keys import key_hash, new_key, short_hash
from forebay.spec.tenants.tenant_list import Tenant, Tenants, TenantsSpec
from forebay.spec.tenants.tenants_edit import Edited, NotMeantError, add_key, revoke, setting_faults
from forebay.spec.tenants.tenants_file import LOOK_EVERY_S, LastGood, TenantsFile, Version
from forebay.spec.tenants.tenants_loading import load_tenants
from forebay.spec.tenants.tenants_writing import update_tenants_file

__all__ = [
    "LOOK_EVERY_S",
    "Edited",
    "LastGood",
    "NotMeantError",
    "Tenant",
    "Tenants",
    "TenantsFile",
    "TenantsSpec",
    "Version",
    "add_key",
    "key_hash",
    "load_tenants",
    "new_key",
    "revoke",
    "setting_faults",
    "short_hash",
    "update_tenants_file",
]
