#!/usr/bin/env bash
# The Debian packages that the servers beside this script need, installed at once, so that no test waits for another's installation.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || { note "not root on Debian: tests say what they lack"; exit 0; }
( need /usr/sbin/sshd=openssh-server ssh-keygen=openssh-client rsync=rsync ip=iproute2 iptables=iptables unshare=util-linux curl=curl pgrep=procps \
  /usr/sbin/dockerd=docker.io /usr/bin/docker-init=tini java=openjdk-17-jre-headless /usr/lib/postgresql=postgresql psql=postgresql-client unzip=unzip \
  python3 python3-venv python3-pip ) || [ -z "${CI:-}" ]
