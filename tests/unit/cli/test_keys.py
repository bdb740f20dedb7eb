"""`forebay keys` as a user calls it."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from forebay.cli.main import app
from forebay.spec.tenants import (
    Tenants,
    add_key,
    key_hash,
    load_tenants,
    revoke,
    update_tenants_file,
)
from forebay.spec.tenants.tenants_loading import load_tenants_text

HASHES = [key_hash(f"k{number}") for number in range(6)]


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(app, ["keys", *(str(arg) for arg in args)])


def create(file: Path, name: str, *options: str) -> str:
    result = run("create", name, "--file", file, *options)
    assert result.exit_code == 0, result.stderr
    return result.stdout.removesuffix("\n")


def holder(file: Path, key: str) -> str | None:
    tenant = Tenants(load_tenants(file)).holder(key)
    return None if tenant is None else tenant.name


def test_a_key_is_all_that_is_printed_and_opens_the_door(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    result = run("create", "shop", "--file", file, "--weight", "2", "--tokens-per-minute", "5000")
    key = result.stdout.removesuffix("\n")
    assert key.startswith("fb_")
    assert "\n" not in key
    assert key not in result.stderr
    assert key not in file.read_text()
    assert holder(file, key) == "shop"
    (tenant,) = load_tenants(file).tenants
    assert (tenant.weight, tenant.tokens_per_minute) == (2.0, 5000)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_further_key_replaces_nothing(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    first, other, second = create(file, "shop"), create(file, "search"), create(file, "shop")
    assert [holder(file, key) for key in (first, other, second)] == ["shop", "search", "shop"]


def test_options_change_an_existing_tenant(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    key = create(file, "shop", "--weight", "2")
    create(file, "shop", "--highest-class", "batch", "--cache-group", "retail")
    (tenant,) = load_tenants(file).tenants
    assert (tenant.weight, tenant.highest_class, tenant.cache_group) == (2.0, "batch", "retail")
    assert holder(file, key) == "shop"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["a b"], "NAME: 'a b' cannot be a name here; write at most 63"),
        (["fb_" + "s" * 43], "NAME: 'fb_...' cannot be a name here"),
        (["shop", "--weight", "0"], "--weight: 0 must be at least 0.001"),
        (["shop", "--weight", "2000"], "--weight: 2000 must be at most 1000"),
        (["shop", "--weight", "nan"], "--weight: nan is not a finite number"),
        (["shop", "--tokens-per-minute", "-5"], "--tokens-per-minute: -5 must be above 0"),
        (["shop", "--max-concurrency", "0"], "--max-concurrency: 0 must be above 0"),
        (["shop", "--highest-class", "urgent"], "--highest-class: 'urgent' is not one of"),
        (["shop", "--cache-group", "a b"], "--cache-group: 'a b' cannot be a name here"),
    ],
)
def test_what_the_file_may_not_say_is_not_written(
    tmp_path: Path, options: list[str], words: str
) -> None:
    file = tmp_path / "tenants.yaml"
    result = run("create", *options, "--file", file)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"forebay: {words}")
    assert str(file) not in result.stderr, "a line was named of a file that was never written"
    assert result.stdout == "", "a key was printed that opens nothing"
    assert not file.exists()


def test_each_wrong_option_is_named(tmp_path: Path) -> None:
    options = ["--weight", "-1", "--highest-class", "urgent"]
    result = run("create", "shop", *options, "--file", tmp_path / "tenants.yaml")
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == options[::2]


def test_a_faulty_file_is_the_users_and_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    file.write_text("tenants:\n- nam: shop\n")
    result = run("create", "shop", "--file", file)
    assert result.exit_code == 2
    assert f"{file}:2: tenants.0.nam: unknown key; did you mean name?" in result.stderr
    assert file.read_text() == "tenants:\n- nam: shop\n"


def test_where_nothing_can_be_written_is_the_environments_fault(tmp_path: Path) -> None:
    result = run("create", "shop", "--file", tmp_path / "none" / "tenants.yaml")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "cannot be written" in result.stderr


def test_a_key_is_revoked_by_the_beginning_of_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    first, second = create(file, "shop"), create(file, "shop")
    result = run("revoke", key_hash(first)[:19], "--file", file)
    assert result.exit_code == 0
    assert "a key of shop is void" in result.stdout
    assert [holder(file, key) for key in (first, second)] == [None, "shop"]


def test_revoking_the_last_tenant_opens_nothing(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    key = create(file, "shop")
    result = run("revoke", "shop", "--file", file)
    assert result.exit_code == 0
    assert "shop may not use the service any more" in result.stdout
    assert "nobody is let in" in result.stderr
    assert load_tenants(file).tenants == []
    assert holder(file, key) is None
    assert create(file, "shop")


@pytest.mark.parametrize("which", ["nobody", "sha256:", "", "sha256:zz", "sha256:zzzzzz"])
def test_revoking_nobody_is_refused(tmp_path: Path, which: str) -> None:
    file = tmp_path / "tenants.yaml"
    key = create(file, "shop")
    result = run("revoke", which, "--file", file)
    assert result.exit_code == 2
    assert holder(file, key) == "shop"
    assert run("revoke", "shop", "--file", tmp_path / "none.yaml").exit_code == 2


@pytest.mark.parametrize("prefix", ["", "sha256:"])
def test_a_few_digits_may_be_a_mistyped_name_and_revoke_nothing(
    tmp_path: Path, prefix: str
) -> None:
    file = tmp_path / "tenants.yaml"
    key = create(file, "shop")
    digits = key_hash(key).removeprefix("sha256:")
    for few in range(1, 6):
        result = run("revoke", prefix + digits[:few], "--file", file)
        assert result.exit_code == 2
        assert "at least 6 hexadecimal digits" in result.stderr
        assert holder(file, key) == "shop"
    assert run("revoke", prefix + digits[:6].upper(), "--file", file).exit_code == 0
    assert holder(file, key) is None


def test_the_beginning_of_several_hashes_is_refused_and_a_name_is_no_beginning() -> None:
    starts = ["sha256:" + digit * 6 + "0" * 58 for digit in "aab"]
    starts[1] = starts[1][:-1] + "1"
    text = ""
    for name, stored in zip(("x", "y", "aaaaaa"), starts, strict=True):
        text = add_key(text, "f", name, stored, {}).text
    with pytest.raises(LookupError, match="2 keys have hashes that begin so"):
        revoke(text, "f", "sha256:aaaaaa")
    assert revoke(text, "f", "aaaaaa").removed == ("aaaaaa",)


def test_the_list_never_shows_a_whole_hash(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    key = create(file, "shop", "--weight", "2")
    plain = run("list", "--file", file).stdout
    assert "shop: weight 2.0, highest class interactive" in plain
    assert key_hash(key)[:19] in plain
    content = json.loads(run("list", "--json", "--file", file).stdout)
    assert content["tenants"][0]["keys"] == [key_hash(key)[:19]]
    assert key_hash(key) not in plain + json.dumps(content)


WITH_COMMENTS = f"""\
# ours

tenants:
  # the first
  - name: shop   # the shop
    weight: 2
    key_hashes:
      - {HASHES[0]}  # January
      - {HASHES[1]}
  # the second
  - name: search
    key_hashes:
      - {HASHES[2]}
"""


def test_comments_stay_when_a_key_or_a_tenant_comes() -> None:
    more = add_key(WITH_COMMENTS, "f", "shop", HASHES[3], {})
    assert not more.comments_lost
    assert [line for line in more.text.splitlines() if HASHES[3] not in line] == (
        WITH_COMMENTS.splitlines()
    )
    other = add_key(WITH_COMMENTS, "f", "other", HASHES[3], {"weight": 3.0})
    assert other.text.startswith(WITH_COMMENTS)
    assert [t.name for t in load_tenants_text(other.text).tenants] == ["shop", "search", "other"]


def test_comments_stay_when_a_key_or_a_tenant_goes() -> None:
    less = revoke(WITH_COMMENTS, "f", HASHES[0])
    assert not less.comments_lost
    assert less.text == "".join(
        line for line in WITH_COMMENTS.splitlines(keepends=True) if HASHES[0] not in line
    )
    gone = revoke(WITH_COMMENTS, "f", "shop")
    assert gone.text.splitlines()[:5] == [
        "# ours", "", "tenants:", "  # the first", "  # the second"
    ]  # fmt: skip
    assert [t.name for t in load_tenants_text(gone.text).tenants] == ["search"]


@pytest.mark.parametrize(
    "text",
    [
        "# head\ntenants: [{name: shop, key_hashes: [%s, %s]}]  # why\n",
        "# head\ntenants:\n- {name: shop, key_hashes: [%s, %s]} # why\n",
        "# head\ntenants:\n-\n  key_hashes: [%s, # why\n    %s]\n  name: shop\n",
    ],
)
def test_a_file_in_another_style_is_written_anew_and_says_so(text: str) -> None:
    text %= (HASHES[0], HASHES[1])
    for edited in (
        add_key(text, "f", "shop", HASHES[3], {}),
        add_key(text, "f", "b", HASHES[3], {}),
        revoke(text, "f", HASHES[0]),
    ):
        assert edited.text.startswith("# head\n")
        assert edited.comments_lost == ("why" not in edited.text)
        assert HASHES[1] in edited.text
        load_tenants_text(edited.text)
    assert HASHES[0] not in revoke(text, "f", HASHES[0]).text


def test_a_file_that_only_libyaml_reads_can_be_changed() -> None:
    text = (
        f"tenants:\n- name: shop\n  weight:\t2\n  key_hashes:\n  - {HASHES[0]}\n  - {HASHES[1]}\n"
    )
    assert revoke(text, "f", HASHES[0]).text == text.replace(f"  - {HASHES[0]}\n", "")


def test_a_file_of_comments_alone_keeps_them() -> None:
    assert add_key("# ours\n", "f", "a", HASHES[0], {}).text.startswith("# ours\ntenants:\n")


def test_writers_at_the_same_time_lose_nobodys_tenant(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"

    def add(number: int) -> None:
        stored = key_hash(str(number))
        update_tenants_file(file, lambda text: add_key(text, "f", f"t{number}", stored, {}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(24)))
    assert {t.name for t in load_tenants(file).tenants} == {f"t{number}" for number in range(24)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tenants.yaml", "tenants.yaml.lock"]


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    create(file, "shop")
    before = file.read_text()

    def fail(text: str) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        update_tenants_file(file, fail)  # type: ignore[arg-type]
    assert file.read_text() == before


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o400])
def test_who_could_read_the_file_still_can(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "tenants.yaml"
    key = create(file, "shop")
    create(file, "search")
    file.chmod(mode)
    run("revoke", key_hash(key), "--file", file)
    assert stat.S_IMODE(file.stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_the_file_keeps_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    create(file, "shop")
    os.chown(file, 1234, 5678)
    create(file, "search")
    assert (file.stat().st_uid, file.stat().st_gid) == (1234, 5678)


@pytest.mark.parametrize(("may_keep_group", "mode"), [(True, 0o660), (False, 0o600)])
def test_where_the_owner_cannot_be_kept_the_group_is_or_gets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, may_keep_group: bool, mode: int
) -> None:
    file = tmp_path / "tenants.yaml"
    create(file, "shop")
    file.chmod(0o660)
    seen = []

    def chown(handle: int, owner: int, group: int) -> None:
        seen.append((owner, group))
        if owner >= 0 or not may_keep_group:
            raise PermissionError

    monkeypatch.setattr(os, "fchown", chown)
    before = file.stat()
    create(file, "search")
    assert seen == 2 * [(before.st_uid, before.st_gid), (-1, before.st_gid)]  # the lock's, too
    assert stat.S_IMODE(file.stat().st_mode) == mode


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.yaml", tmp_path / "tenants.yaml"
    create(real, "shop")
    link.symlink_to(real)
    key = create(link, "search")
    assert link.is_symlink()
    assert holder(real, key) == "search"


def test_who_may_write_the_file_may_take_its_lock(tmp_path: Path) -> None:
    file, lock = tmp_path / "tenants.yaml", tmp_path / "tenants.yaml.lock"

    def add(name: str) -> None:
        stored = key_hash(name)
        update_tenants_file(file, lambda text: add_key(text, "f", name, stored, {}))

    add("a")
    file.chmod(0o660)
    add("b")
    assert stat.S_IMODE(lock.stat().st_mode) == stat.S_IMODE(file.stat().st_mode) == 0o660
