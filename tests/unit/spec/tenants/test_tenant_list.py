"""The tenants file: who holds a key, what is refused, and that no message gives a key away."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.spec.files import SpecError
from forebay.spec.service import load_service, load_service_text, summarize
from forebay.spec.tenants import Tenants, TenantsFile, Version, key_hash, new_key
from forebay.spec.tenants.tenant_keys import without_secrets
from forebay.spec.tenants.tenants_loading import load_tenants_text

KEYS = [new_key() for _ in range(4)]
HASHES = [key_hash(key) for key in KEYS]
DEMO = "name: chat\nmodel: {id: demo, source: demo}\n"


def text(*tenants: dict[str, object]) -> str:
    return yaml.safe_dump({"tenants": list(tenants)}, sort_keys=False)


def two_tenants() -> str:
    return text(
        {"name": "shop", "key_hashes": HASHES[:2], "weight": 2.0, "tokens_per_minute": 1000},
        {"name": "search", "key_hashes": HASHES[2:3], "highest_class": "batch"},
    )


def said(content: str) -> list[str]:
    with pytest.raises(SpecError) as refused:
        load_tenants_text(content, "t.yaml")
    return [str(problem) for problem in refused.value.problems]


def test_each_key_is_held_by_its_tenant_and_no_other_key_by_anybody() -> None:
    tenants = Tenants(load_tenants_text(two_tenants()))
    held = [tenant and tenant.name for tenant in map(tenants.holder, KEYS)]
    assert held == ["shop", "shop", "search", None]
    assert tenants.holder("") is None
    assert tenants.holder(HASHES[0]) is None, "a stored hash opened the door"
    assert tenants.holder("\udce9\U0001f511") is None


def test_a_tenant_has_defaults_for_what_is_not_written() -> None:
    shop, search = load_tenants_text(two_tenants()).tenants
    assert (shop.weight, shop.tokens_per_minute, shop.highest_class) == (2.0, 1000, "interactive")
    assert (search.weight, search.tokens_per_minute, search.max_concurrency) == (1.0, None, None)


def test_keys_are_long_random_and_recognisable() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert all(len(key) == 46 and key.startswith("fb_") for key in made)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("weigth: 2", "t.yaml:4: tenants.0.weigth: unknown key; did you mean weight?"),
        ("weight: 0", "t.yaml:4: tenants.0.weight: 0 must be at least 0.001"),
        ("weight: 1.0e-12", "tenants.0.weight: 1e-12 must be at least 0.001"),
        ("weight: 1.0e+300", "must be at most 1000"),
        ("tokens_per_minute: 1.5", "t.yaml:4: tenants.0.tokens_per_minute: 1.5 is not a whole"),
        ("highest_class: urgent", "'urgent' is not one of 'interactive' or 'batch'"),
        ("cache_group: a b", "'a b' cannot be a name here; write at most 63 letters"),
    ],
)
def test_a_mistake_is_named_with_its_line(line: str, words: str) -> None:
    content = f"tenants:\n- name: a\n  key_hashes: ['{HASHES[0]}']\n  {line}\n"
    (problem,) = said(content)
    assert words in problem


def test_names_and_hashes_are_unique_over_the_file() -> None:
    same_name = text(
        {"name": "a", "key_hashes": HASHES[:1]}, {"name": "a", "key_hashes": HASHES[1:2]}
    )
    assert "two tenants have the name a" in said(same_name)[0]
    same_key = text(
        {"name": "a", "key_hashes": HASHES[:1]}, {"name": "b", "key_hashes": HASHES[:1]}
    )
    assert "a key hash stands twice (a, b)" in said(same_key)[0]


def test_a_tenant_without_a_key_is_refused_and_a_file_without_tenants_is_not() -> None:
    assert "holds 0 of at least 1 values" in said(text({"name": "a", "key_hashes": []}))[0]
    assert Tenants(load_tenants_text("tenants: []")).holder(KEYS[0]) is None


def test_an_empty_file_is_told_how_to_start() -> None:
    assert said("# nothing yet\n") == [
        "t.yaml:1: the file is empty; forebay keys create NAME adds a tenant"
    ]


PLACES = (
    "tenants:\n- name: a\n  key_hashes: [{secret}]\n",
    "tenants:\n- name: {secret}\n  key_hashes: ['{hashed}']\n",
    "tenants:\n- name: a\n  {secret}: 1\n  key_hashes: ['{hashed}']\n",
    "tenants:\n- name: a\n  key_hashes: ['{hashed}', '{hashed}']\n  weight: {secret}\n",
    "tenants: {secret}\n",
    "tenants:\n- *{secret}\n",
    "{secret}\n",
    "tenants: [ {secret}\n  {hashed}: {secret}\n",
)


@pytest.mark.parametrize("place", PLACES)
def test_no_message_shows_a_key_or_a_whole_hash_wherever_it_was_put(place: str) -> None:
    secret, hashed = KEYS[0], HASHES[0]
    words = "\n".join(said(place.format(secret=secret, hashed=hashed)))
    assert words
    assert secret[3:20] not in words
    assert hashed.removeprefix("sha256:")[:20] not in words


@given(st.text(max_size=20), st.text(max_size=20))
@settings(max_examples=30)
def test_a_key_or_hash_is_blotted_out_of_any_text(before: str, after: str) -> None:
    assert KEYS[0] not in without_secrets(before + KEYS[0] + after)
    assert HASHES[0] not in without_secrets(before + HASHES[0] + after)


# --- the file of a running service ------------------------------------------------------------


def replace(path: Path, content: str) -> None:
    """As an editor or `forebay keys` does it: another file under the same name."""
    other = path.with_suffix(".new")
    other.write_text(content)
    other.replace(path)


def test_a_change_is_seen_within_a_second_and_not_looked_for_more_often(tmp_path: Path) -> None:
    path = tmp_path / "tenants.yaml"
    path.write_text(text({"name": "a", "key_hashes": HASHES[:1]}))
    file = TenantsFile(path, now=10.0)
    replace(path, text({"name": "a", "key_hashes": HASHES[1:2]}))
    assert file.current(10.9).holder(KEYS[0]) is not None
    tenants = file.current(11.0)
    assert tenants.holder(KEYS[0]) is None
    assert tenants.holder(KEYS[1]) is not None
    assert file.current(12.5) is tenants, "read again although nothing had changed"


def test_a_change_in_place_of_equal_size_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "tenants.yaml"
    path.write_text(text({"name": "a", "key_hashes": HASHES[:1]}))
    file = TenantsFile(path, now=0.0)
    path.write_text(text({"name": "b", "key_hashes": HASHES[:1]}))
    os.utime(path, ns=(1, 1))  # a filesystem with coarse times would otherwise hide it
    holder = file.current(1.0).holder(KEYS[0])
    assert holder is not None
    assert holder.name == "b"


@pytest.mark.parametrize("broken", ["tenants: [%s", "", "tenants: [{name: %s}]"])
def test_a_broken_file_changes_nothing_and_says_so_without_secrets(
    tmp_path: Path, broken: str
) -> None:
    path = tmp_path / "tenants.yaml"
    path.write_text(two_tenants())
    file = TenantsFile(path, now=0.0)
    replace(path, broken.replace("%s", KEYS[1]))
    assert file.current(1.0).holder(KEYS[0]) is not None
    assert file.error is not None
    assert str(path) in file.error
    assert KEYS[1] not in file.error
    replace(path, text({"name": "a", "key_hashes": HASHES[3:]}))
    assert file.current(2.0).holder(KEYS[0]) is None
    assert file.error is None


def test_a_file_that_could_not_be_read_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tenants.yaml"
    path.write_text(two_tenants())
    file = TenantsFile(path, now=0.0)
    replace(path, text({"name": "a", "key_hashes": HASHES[3:]}))

    def fail(self: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", fail)
        assert file.current(1.0).holder(KEYS[0]) is not None
        assert file.current(2.0).holder(KEYS[0]) is not None
        assert "cannot be read: Too many open files" in str(file.error)
    assert file.current(2.9).holder(KEYS[0]) is not None
    assert file.current(3.0).holder(KEYS[0]) is None
    assert file.error is None


def test_a_file_that_is_wrong_is_not_read_again_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tenants.yaml"
    path.write_text(two_tenants())
    file = TenantsFile(path, now=0.0)
    replace(path, "tenants: 3")
    file.current(1.0)

    def fail(self: Path) -> bytes:
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", fail)
        file.current(2.0)
    assert "3 is not a list" in str(file.error)


def test_a_file_that_has_gone_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tenants.yaml"
    path.write_text(two_tenants())
    file = TenantsFile(path, now=0.0)
    path.unlink()
    assert file.current(5.0).holder(KEYS[0]) is not None
    assert "no such file" in str(file.error)


def test_a_service_does_not_start_on_a_broken_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        TenantsFile(tmp_path / "tenants.yaml", now=0.0)


class Shared:
    """What a fleet has read last."""

    def __init__(self) -> None:
        self.said: Version | None = None
        self.is_away = False

    def read(self) -> Version | None:
        return self.said

    def write(self, version: Version) -> bool:
        if not self.is_away:
            self.said = version
        return not self.is_away


ONE = text({"name": "a", "key_hashes": HASHES[3:]})


def test_who_starts_beside_a_broken_file_goes_on_with_what_others_read_last(tmp_path: Path) -> None:
    path, shared = tmp_path / "tenants.yaml", Shared()
    path.write_text(two_tenants())
    running = TenantsFile(path, 0.0, shared)
    replace(path, ONE)
    running.look()
    running.share()
    replace(path, "tenants: 3")
    joining = TenantsFile(path, 0.0, shared)
    assert joining.tenants.holder(KEYS[3]) is not None
    assert joining.tenants.holder(KEYS[0]) is None, "a key that was revoked"
    assert str(path) in str(joining.error)
    replace(path, text({"name": "a", "key_hashes": HASHES[1:2]}))
    joining.look()
    assert joining.tenants.holder(KEYS[1]) is not None
    assert joining.error is None


def test_where_there_is_no_file_nobody_starts_with_what_others_read(tmp_path: Path) -> None:
    path, shared = tmp_path / "tenants.yaml", Shared()
    path.write_text(two_tenants())
    running = TenantsFile(path, 0.0, shared)
    path.unlink()
    with pytest.raises(SpecError, match="no such file"):
        TenantsFile(path, 0.0, shared)
    running.look()
    running.share()
    assert running.tenants.holder(KEYS[0]) is not None


def test_where_a_file_is_wrong_a_key_revoked_elsewhere_is_revoked(tmp_path: Path) -> None:
    path, shared = tmp_path / "tenants.yaml", Shared()
    path.write_text(two_tenants())
    file = TenantsFile(path, 0.0, shared)
    replace(path, "tenants: 3")
    file.look()
    file.share()
    assert file.tenants.holder(KEYS[0]) is not None
    shared.write(Version(ONE, time.time_ns()))  # by who has the file on its node
    file.share()
    assert file.tenants.holder(KEYS[0]) is None
    shared.write(Version("tenants: 4", time.time_ns()))  # of another version, say
    file.share()
    assert file.tenants.holder(KEYS[3]) is not None


def test_a_revoked_key_does_not_come_back_from_who_has_not_heard(tmp_path: Path) -> None:
    path, behind, shared = tmp_path / "tenants.yaml", tmp_path / "behind.yaml", Shared()
    for one in (behind, path):
        one.write_text(two_tenants())
    file = TenantsFile(path, 0.0, shared)
    before = shared.said
    replace(path, ONE)
    file.look()
    file.share()
    late = TenantsFile(behind, 0.0, shared)  # on a node where the file is still as it was
    late.share()
    assert shared.said is not None
    assert shared.said.text == ONE
    shared.said = before  # what the cluster's head had kept, and is back with
    replace(path, "tenants: 3")
    file.look()
    file.share()
    assert file.tenants.holder(KEYS[0]) is None


def test_what_could_not_be_shared_is_shared_later_and_a_wrong_version_never(tmp_path: Path) -> None:
    path, shared = tmp_path / "tenants.yaml", Shared()
    path.write_text(two_tenants())
    shared.is_away = True
    file = TenantsFile(path, 0.0, shared)
    shared.is_away = False
    file.share()
    assert shared.said is not None
    assert shared.said.text == two_tenants()
    replace(path, "tenants: 3")
    file.look()
    file.share()
    assert shared.said.text == two_tenants()


# --- in the service file ----------------------------------------------------------------------


def service(tmp_path: Path, rest: str) -> Path:
    path = tmp_path / "forebay.yaml"
    path.write_text(DEMO + rest)
    return path


def test_a_service_without_tenants_is_open_and_says_so() -> None:
    spec = load_service_text(DEMO)
    assert spec.tenants is None
    assert spec.cache_isolation == "shared"
    assert "open: no key is asked for" in summarize(spec)["tenants"]


def test_a_service_with_tenants_isolates_their_caches_unless_told_otherwise(tmp_path: Path) -> None:
    (tmp_path / "tenants.yaml").write_text(two_tenants())
    spec = load_service(service(tmp_path, "tenants: tenants.yaml\n"))
    assert spec.tenants == str(tmp_path / "tenants.yaml")
    assert spec.cache_isolation == "tenant"
    assert "2 tenants with 3 keys" in summarize(spec)["tenants"]
    shared = "tenants: tenants.yaml\nadmission: {cache_isolation: shared}\n"
    assert load_service(service(tmp_path, shared)).cache_isolation == "shared"


def test_isolating_tenants_that_do_not_exist_is_refused() -> None:
    with pytest.raises(SpecError, match="tenant needs tenants, and this service is open"):
        load_service_text(DEMO + "admission: {cache_isolation: tenant}\n")


def test_a_fault_in_the_tenants_file_is_a_fault_of_the_service(tmp_path: Path) -> None:
    (tmp_path / "tenants.yaml").write_text("tenants:\n- nam: a\n  key_hashes: []\n")
    with pytest.raises(SpecError) as refused:
        load_service(service(tmp_path, "tenants: tenants.yaml\n"))
    words = [str(problem) for problem in refused.value.problems]
    assert any(
        "forebay.yaml:3: tenants:" in line and "tenants.yaml:2: tenants.0.nam: unknown key" in line
        for line in words
    )
    with pytest.raises(SpecError, match=r"none\.yaml: no such file; forebay keys create"):
        load_service(service(tmp_path, "tenants: none.yaml\n"))
