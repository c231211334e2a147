"""A connection to an SSH server, made in stages that can be called, and timed, one by one.

``resolve → connect → host_key → sign_in``. Only the pinned host key is trusted, only what the target was given signs in: no
agent, no keys of the studio's user, no known_hosts.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import paramiko

from environments.transports.base import TransportError
from environments.transports.keys import load_key

RESOLVE_SECONDS = 8.0
CONNECT_SECONDS = 8.0
HANDSHAKE_SECONDS = 15.0
SIGN_IN_SECONDS = 20.0
CHANNEL_SECONDS = 15.0
KEEP_ALIVE_SECONDS = 15
WINDOW = 16 << 20
PACKET = 256 << 10
# Encrypted and checked in one pass of the processor's own instructions; measured three times as fast as CTR with a MAC.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")

logging.getLogger("paramiko").setLevel(
    logging.CRITICAL
)  # every fault comes as an exception; its log repeats it with a traceback


@dataclass(frozen=True)
class HostKey:
    """What a server showed."""

    type: str
    """``ssh-ed25519``"""
    fingerprint: str
    """``SHA256:…``, as OpenSSH prints it."""
    line: str
    """``type base64``: what is pinned."""


class Connection:
    """One server; behind a jump host, ``jump`` is the connection to that. Each stage does those before it that are
    still to be done, raises TransportError, and may be called again."""

    def __init__(
        self, options: Mapping[str, Any], credentials: Mapping[str, str], jump: Connection | None = None
    ) -> None:
        self.host = str(options.get("host") or "")
        self.port = int(options.get("port") or 22)
        self.user = str(options.get("user") or "")
        self.pin = " ".join(str(options.get("host_key") or "").split()[:2])
        self.jump = jump
        self.role = "host"
        self._credentials = credentials
        self._addresses: list[tuple[Any, ...]] = []
        self._socket: socket.socket | paramiko.Channel | None = None
        self._session: paramiko.Transport | None = None
        self._signed_in = False

    @classmethod
    def of(cls, options: Mapping[str, Any], credentials: Mapping[str, str]) -> Connection:
        """From a target's options and credentials; nothing is sent yet."""
        ssh = options.get("ssh") or {}
        jump = None
        if ssh.get("jump"):
            own = {name: credentials.get(f"jump_{name}", "") for name in ("password", "private_key", "passphrase")}
            shared = {name: credentials.get(name, "") for name in own}
            jump = cls(ssh["jump"], own if own["password"] or own["private_key"] else shared)
            jump.role = "jump host"
        return cls(ssh, credentials, jump)

    @property
    def name(self) -> str:
        """The server, as messages call it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'jump host ' if self.role != 'host' else ''}{host}{'' if self.port == 22 else f':{self.port}'}"

    @property
    def alive(self) -> bool:
        """Whether streams can be opened over it, as far as is known here."""
        return self._signed_in and self._session is not None and self._session.is_active()

    # -- the stages

    def resolve(self) -> list[str]:
        """Look the name up; its addresses. Behind a jump host the jump host looks it up, and there are none."""
        if self.jump is not None:
            self.jump.sign_in()
            return []
        found: list[Any] = []
        worker = threading.Thread(target=self._look_up, args=(found,), daemon=True)
        worker.start()
        worker.join(RESOLVE_SECONDS)  # the resolver of the system has no time-out of ours
        result = found[0] if found else TimeoutError()
        if isinstance(result, Exception):
            why = "its name server did not answer" if isinstance(result, TimeoutError) else "its name is not known"
            raise TransportError(
                f"The {self.role} {self.host} was not found: {why}.",
                code="resolve",
                fix="Check the host's name for typing errors, and that this machine's name server knows it.",
            ) from result
        self._addresses = result
        return [address[4][0] for address in self._addresses]

    def _look_up(self, found: list[Any]) -> None:
        try:
            found.append(socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(error)

    def connect(self) -> str:
        """Open the connection to the port; the address that answered."""
        if self._socket is not None:
            return self._peer()
        if self.jump is not None:
            self._socket = self._through(self.jump)
            return self._peer()
        if not self._addresses:
            self.resolve()
        last: OSError = OSError("there is no address")
        for family, kind, protocol, _, address in self._addresses[:4]:
            opened = socket.socket(family, kind, protocol)
            try:
                opened.settimeout(CONNECT_SECONDS)
                opened.connect(address)
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                opened.close()
                last = error
            else:
                self._socket = opened
                return self._peer()
        self._addresses = []
        raise self._unreached(last) from last

    def _peer(self) -> str:
        with contextlib.suppress(OSError, AttributeError, TypeError):
            assert self._socket is not None
            return str(self._socket.getpeername()[0])
        return self.host

    def _unreached(self, error: OSError) -> TransportError:
        if isinstance(error, ConnectionRefusedError):
            return TransportError(
                f"{self.name} refused the connection: nothing listens on port {self.port}.",
                code="refused",
                fix="Check the port, and that the SSH server runs there.",
            )
        if isinstance(error, TimeoutError):
            return TransportError(
                f"{self.name} did not answer on port {self.port} within {CONNECT_SECONDS:g} s.",
                code="timeout",
                fix="Check that the machine is on and that no firewall is between it and this machine.",
            )
        return TransportError(
            f"{self.name} cannot be reached: {error.strerror or error}.",
            code="unreachable",
            fix="Check the network between this machine and the host.",
        )

    def _through(self, jump: Connection) -> paramiko.Channel:
        session = jump.sign_in()
        try:
            with jump.deadline(CHANNEL_SECONDS):
                return session.open_channel(
                    "direct-tcpip", (self.host, self.port), ("127.0.0.1", 0), WINDOW, PACKET, timeout=CHANNEL_SECONDS
                )
        except paramiko.ChannelException as error:
            code, why = (
                ("forbidden", "does not forward connections") if error.code == 1 else ("refused", "could not connect")
            )
            raise TransportError(
                f"The {jump.name} {why} to {self.name}: {error.text}.",
                code=code,
                fix="On the jump host allow it (AllowTcpForwarding yes), and check the target's host and port from there.",
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise TransportError(f"The {jump.name} went away: {_said(error)}.", code="lost") from error

    def host_key(self) -> HostKey:
        """Agree on keys with the server; the key it showed. Nothing is trusted by that: see ``check_pin``."""
        if self._session is None:
            self.connect()
            assert self._socket is not None
            session = paramiko.Transport(self._socket, default_window_size=WINDOW, default_max_packet_size=PACKET)
            session.banner_timeout = session.handshake_timeout = HANDSHAKE_SECONDS
            session.auth_timeout = SIGN_IN_SECONDS
            security = session.get_security_options()
            security.ciphers = CIPHERS
            if self.pin:  # a server with several keys shows the one that is pinned
                kind = self.pin.split()[0]
                wanted = [each for each in security.key_types if each == kind or (kind == "ssh-rsa" and "rsa" in each)]
                security.key_types = tuple(wanted + [each for each in security.key_types if each not in wanted])
            self._session = session
            try:
                with self.deadline(HANDSHAKE_SECONDS * 2):
                    session.start_client(timeout=HANDSHAKE_SECONDS)
                    if not session.is_active() or not session.initial_kex_done:
                        raise TimeoutError(f"no answer within {HANDSHAKE_SECONDS:g} s")
            except (paramiko.SSHException, EOFError, OSError) as error:
                self.close()
                raise TransportError(
                    f"{self.name} did not greet as an SSH server does: {_said(error)}.",
                    code="handshake",
                    fix="Check that an SSH server listens on this port. One with many sign-ins at once drops some; those are "
                    "tried again.",
                ) from error
        key = self._session.get_remote_server_key()
        return HostKey(key.get_name(), key.fingerprint, f"{key.get_name()} {key.get_base64()}")

    def check_pin(self) -> HostKey:
        """The key that the server showed, where it is the pinned one. Raises TransportError, permanent, otherwise."""
        shown = self.host_key()
        if shown.line == self.pin:
            return shown
        self.close()
        if not self.pin:
            raise TransportError(
                f"The host key of {self.name} has not been confirmed. It shows {shown.type} {shown.fingerprint}.",
                permanent=True,
                code="host_key_unknown",
                fix="Compare the fingerprint with the one on the machine (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub), then "
                "confirm it.",
            )
        raise TransportError(
            f"The host key of {self.name} has changed: confirmed was {fingerprint(self.pin)}, it shows {shown.type} "
            f"{shown.fingerprint}. Nothing was sent.",
            permanent=True,
            code="host_key_changed",
            fix="If the machine was installed anew, compare the fingerprint on it and confirm the new key. Otherwise somebody "
            "may stand between.",
        )

    def sign_in(self) -> paramiko.Transport:
        """Sign in, over a server whose key is the pinned one; the session that streams are opened in."""
        if self._session is not None and self._signed_in and self._session.is_active():
            return self._session
        if self._signed_in:
            self.close()
        private = self._credentials.get("private_key", "")
        key = load_key(private, self._credentials.get("passphrase", "")) if private else None
        self.check_pin()
        session = self._session
        assert session is not None
        try:
            with self.deadline(SIGN_IN_SECONDS * 2):
                self._authenticate(session, key)
        except paramiko.AuthenticationException as error:
            self.close()
            raise self._refused(error, key) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            self.close()
            raise TransportError(f"{self.name} went away while signing in: {_said(error)}.", code="lost") from error
        session.set_keepalive(KEEP_ALIVE_SECONDS)
        self._signed_in = True
        return session

    def _authenticate(self, session: paramiko.Transport, key: paramiko.PKey | None) -> None:
        password = self._credentials.get("password", "")
        if key is None and not password:
            raise paramiko.AuthenticationException("neither a key nor a password is stored")
        if key is not None:
            try:
                more = session.auth_publickey(self.user, key)
            except paramiko.AuthenticationException:
                if not password or not session.is_active():
                    raise
                more = ["password"]
            if not more:
                return
        if not password:
            raise paramiko.AuthenticationException("the server wants a password besides the key")
        if more := session.auth_password(self.user, password):
            raise paramiko.AuthenticationException(f"the server wants more: {', '.join(more)}")

    def _refused(self, error: Exception, key: paramiko.PKey | None) -> TransportError:
        tried = [name for name, there in (("key", key), ("password", self._credentials.get("password"))) if there]
        if not tried:
            return TransportError(
                f"There is nothing to sign in with as {self.user} on {self.name}.",
                permanent=True,
                code="auth",
                fix="Give a password or a private key, or have the studio make a key.",
            )
        allowed = ""
        if isinstance(error, paramiko.BadAuthenticationType):
            allowed = f" It takes: {', '.join(error.allowed_types)}."
        fix = f"Check the user name {self.user}, and the password."
        if key is not None:
            fix = (
                f"Check the user name {self.user}, and that its ~/.ssh/authorized_keys on {self.host} holds the line "
                f"{key.get_name()} {key.get_base64()}."
            )
        return TransportError(
            f"{self.name} did not let {self.user} in with the {' or the '.join(tried)}.{allowed}",
            permanent=True,
            code="auth",
            fix=fix,
        )

    # -- the end

    @contextlib.contextmanager
    def deadline(self, seconds: float) -> Iterator[None]:
        """Cut the connection when the body takes longer: some waits of the library have no time-out."""
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut(self) -> None:
        if self._session is not None:
            self._session.close()
        if self._socket is not None:
            self._socket.close()

    def close(self) -> None:
        """End it; never waits for the other side. The stages may then be gone through again."""
        self._cut()
        self._session, self._socket, self._signed_in = None, None, False
        if self.jump is not None:
            self.jump.close()


def fingerprint(line: str) -> str:
    """``SHA256:…`` of a key line, as OpenSSH prints it; the text itself where it is no key."""
    try:
        return str(paramiko.pkey.PublicBlob.from_string(line).key_type) + " " + _sha256(line.split()[1])
    except (ValueError, IndexError):
        return repr(line[:60])


def _sha256(encoded: str) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(base64.b64decode(encoded)).digest()).decode().rstrip("=")


def _said(error: BaseException) -> str:
    text = str(error).strip().rstrip(".")
    return text or ("it hung up" if isinstance(error, EOFError) else type(error).__name__)
