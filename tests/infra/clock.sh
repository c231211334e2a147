#!/usr/bin/env bash
# A clock that a test can set: libfaketime, installed when it is missing and we may. Prints the library's path.
set -euo pipefail
find_library() { find /usr/lib -name libfaketime.so.1 2>/dev/null | head -1; }
if [ -z "$(find_library)" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  export DEBIAN_FRONTEND=noninteractive
  apt() { apt-get -y -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" >/dev/null; }
  apt install --no-install-recommends libfaketime 2>/dev/null || { apt update && apt install --no-install-recommends libfaketime; }
fi
library=$(find_library)
[ -n "$library" ] || { echo "The clock test needs libfaketime (Debian: apt-get install libfaketime)." >&2; exit 1; }
echo "$library"
