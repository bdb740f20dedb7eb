#!/usr/bin/env bash
# Makes .venv with all that Forebay needs, from the locks in requirements/, without resolving
# dependencies. Every `make` target runs this first. When nothing has changed since the last time
# it says nothing and costs a few milliseconds: a stamp in .venv holds a hash of what it was made of.
#
#   tools/setup_env.sh                        takes the first Python >= 3.11 it finds
#   PYTHON=/path/to/python tools/setup_env.sh takes that one
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

ROOT=$(pwd -P)
readonly ROOT
readonly VENV="$ROOT/.venv"
readonly STAMP="$VENV/.forebay-setup"
readonly TORCH_LOCK=requirements/torch.lock
readonly DEV_LOCK=requirements/dev.lock
readonly TORCH_INDEX=https://download.pytorch.org/whl/cpu
readonly IS_RECENT='import sys; sys.exit(sys.version_info < (3, 11))'

say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }

fail() {
    printf 'set-up: %s\n' "$*" >&2
    exit 3 # the environment failed, as with the exit codes of `forebay`
}

# What .venv is made of. The path counts too: a moved .venv has scripts that name the old one.
fingerprint() {
    {
        printf '%s\n' "$ROOT"
        "$VENV/bin/python" --version
        cat "$TORCH_LOCK" "$DEV_LOCK" pyproject.toml
    } 2>/dev/null | sha256sum | cut -d' ' -f1
}

is_current() { [[ -f $STAMP && $(<"$STAMP") == "$(fingerprint)" ]]; }

find_python() {
    local candidates=(python3.11 python3.12 python3.13 python3) candidate
    if [[ -n ${PYTHON:-} ]]; then candidates=("$PYTHON"); fi
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c "$IS_RECENT" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is needed, and ${candidates[*]}: none of these is. Install it" \
        "(Debian: apt-get install python3 python3-venv) or name it: PYTHON=/path/to/python make setup"
}

# A .venv that was made here, by a recent enough Python that is still there, is kept.
is_usable() {
    "$VENV/bin/python" -c "$IS_RECENT" 2>/dev/null &&
        grep -qF -- " $VENV" "$VENV/pyvenv.cfg" 2>/dev/null
}

make_venv() {
    if is_usable; then return; fi
    local python
    python=$(find_python)
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear "$VENV" ||
        fail "$python cannot make a virtual environment (Debian: apt-get install python3-venv)"
}

pip_install() {
    "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input --quiet --no-deps "$@"
}

# PyTorch's index is asked only where pip, as it is configured, does not find the wheels.
install_torch() {
    say "installing PyTorch for CPU (half a minute, and a download of 200 MB where it is not at hand)"
    local complaint
    if complaint=$(pip_install -r "$TORCH_LOCK" 2>&1); then return; fi
    say "not found as pip is configured; asking $TORCH_INDEX"
    pip_install --index-url "$TORCH_INDEX" -r "$TORCH_LOCK" && return
    fail "PyTorch cannot be installed. At first pip said:"$'\n'"$complaint"
}

install_packages() {
    say "installing $(grep -c '^[^#].*==' "$DEV_LOCK") packages (about 2 minutes)"
    pip_install -r "$DEV_LOCK" || fail "pip could not install $DEV_LOCK"
    say "installing Forebay itself"
    pip_install --no-build-isolation -e . || fail "pip could not install this folder"
}

check_imports() {
    say "checking that it imports"
    "$VENV/bin/python" -c 'import torch, vllm, ray, forebay' || fail "what was installed does not import"
}

on_exit() {
    local status=$?
    if ((status != 0)); then
        echo "set-up did not finish. Mend what is said above and run it again: make setup" >&2
        echo "To start it over from nothing:                                    make distclean setup" >&2
    fi
}

if is_current; then exit 0; fi
trap on_exit EXIT
# To make it anew would clear the folder that it points to, which others may be using.
[[ ! -L $VENV ]] || fail ".venv is a link to $(readlink -f "$VENV") and is left alone; run" \
    ".venv/bin/forebay and .venv/bin/pytest themselves, or remove the link: rm .venv"
[[ $(uname -s) == Linux ]] || fail "the serving stack runs on Linux only; this is $(uname -s)"
rm -f "$STAMP"
make_venv
install_torch
install_packages
check_imports
fingerprint >"$STAMP"
say "set-up is done"
