#!/usr/bin/env bash
# The browser that the end-to-end tests drive: Debian's Chromium, installed when it is missing and we may.
set -euo pipefail
for name in chromium chromium-browser google-chrome; do
  command -v "$name" >/dev/null 2>&1 && exit 0
done
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "The end-to-end tests need Chromium. Install it (Debian: apt-get install chromium) and run the tests again." >&2
  [ -z "${CI:-}" ]; exit
fi
echo "Installing Chromium for the end-to-end tests" >&2
export DEBIAN_FRONTEND=noninteractive
apt() { apt-get -y -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" >/dev/null; }
apt install --no-install-recommends chromium fonts-dejavu-core 2>/dev/null ||
  { apt update && apt install --no-install-recommends chromium fonts-dejavu-core; }
