#!/usr/bin/env bash
# Installs Chromium for the browser tests of the pages, where nobody need be asked: on Debian,
# as root. Elsewhere, or when it is there already, this does nothing; without it the test is skipped.
set -euo pipefail

if command -v chromium >/dev/null; then exit 0; fi
if [[ $(id -u) != 0 || ! -f /etc/debian_version ]] || ! command -v apt-get >/dev/null; then
    echo "no chromium: the browser tests of the pages will be skipped"
    exit 0
fi
echo "installing chromium for the browser tests of the pages"
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null; }; then
    echo "chromium could not be installed: the browser test will be skipped" >&2
fi
