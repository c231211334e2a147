"""Every setting of the studio, read from the environment with strict readers.

``RUNSTEAD_X`` may also be given as ``RUNSTEAD_X_FILE``, the path of a file that holds the value. Unset means the embedded
default: SQLite, an embedded Redis-compatible server on a private unix socket, and a folder for blobs, all below the data
directory.
"""

import logging
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from studio.paths import generated, private_dir, socket_path

BASE_DIR = Path(__file__).resolve().parent.parent


def setting(name: str, default: str = "") -> str:
    """The text of ``RUNSTEAD_<name>`` or of the file named by ``RUNSTEAD_<name>_FILE``."""
    variable = f"RUNSTEAD_{name}"
    path = os.environ.get(f"{variable}_FILE")
    if path:
        if variable in os.environ:
            raise ImproperlyConfigured(f"Both {variable} and {variable}_FILE are set. Keep one of them.")
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{variable}_FILE: cannot read {path}: {error.strerror}") from error
    return os.environ.get(variable, default)


def integer(name: str, default: int, low: int, high: int) -> int:
    text = setting(name, str(default))
    try:
        value = int(text)
    except ValueError:
        raise ImproperlyConfigured(f"RUNSTEAD_{name}={text!r}: expected a whole number from {low} to {high}.") from None
    if not low <= value <= high:
        raise ImproperlyConfigured(f"RUNSTEAD_{name}={value}: expected a whole number from {low} to {high}.")
    return value


def boolean(name: str, default: bool) -> bool:
    text = setting(name, "true" if default else "false").lower()
    if text not in {"true", "false", "1", "0", "yes", "no"}:
        raise ImproperlyConfigured(f"RUNSTEAD_{name}={text!r}: expected true or false.")
    return text in {"true", "1", "yes"}


def listed(name: str) -> list[str]:
    return [part.strip() for part in setting(name).split(",") if part.strip()]


DATA_DIR = Path(setting("DATA_DIR") or BASE_DIR / "data").expanduser().resolve()
try:
    private_dir(DATA_DIR)
except OSError as error:
    raise ImproperlyConfigured(f"RUNSTEAD_DATA_DIR: cannot make {DATA_DIR}: {error.strerror}.") from error
HOST = setting("HOST", "127.0.0.1")
PORT = integer("PORT", 8000, 1, 65535)
DEBUG = boolean("DEBUG", False)

# The key that signs sessions, and the key that encrypts credentials: two, so that one can be changed without the other.
SECRET_KEY = setting("SECRET_KEY") or generated(DATA_DIR / "keys" / "secret-key")
CREDENTIALS_KEY_FILE = DATA_DIR / "keys" / "credentials-key"

PUBLIC_URL = setting("PUBLIC_URL") or f"http://{'localhost' if HOST in {'0.0.0.0', '::'} else HOST}:{PORT}"  # noqa: S104 compared, not bound
if not PUBLIC_URL.startswith(("http://", "https://")):
    raise ImproperlyConfigured(
        f"RUNSTEAD_PUBLIC_URL={PUBLIC_URL!r}: expected http://… or https://…, as people type it."
    )
ALLOWED_HOSTS = listed("ALLOWED_HOSTS") or ["localhost", "127.0.0.1", "[::1]", HOST.strip("[]")]
if HOST in {"0.0.0.0", "::"} and not listed("ALLOWED_HOSTS"):  # noqa: S104 compared, not bound
    import socket

    ALLOWED_HOSTS += [
        socket.gethostname(),
        socket.getfqdn(),
        *{str(found[4][0]) for found in socket.getaddrinfo(socket.gethostname(), None)},
    ]
CSRF_TRUSTED_ORIGINS = listed("TRUSTED_ORIGINS")
SECURE = PUBLIC_URL.startswith("https://")

INSTALLED_APPS = [
    "studio.accounts",
    "studio.workspaces",
    "environments",
    "runs",
    "studio",
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_rq",
    "django_htmx",
    "ninja",
    "axes",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "studio.middleware.SecurityHeaders",
    "studio.middleware.StorableText",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "studio.urls"
WSGI_APPLICATION = "studio.wsgi.application"
APPEND_SLASH = True
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "studio.context.shell",
            ],
            "builtins": ["studio.templatetags.studio"],
        },
    }
]

# Rows. The address may hold a password: messages show its scheme and no more.
DATABASE_URL = setting("DATABASE_URL") or f"sqlite:///{DATA_DIR / 'studio.sqlite3'}"
if DATABASE_URL.partition("://")[0] not in {"sqlite", "postgres", "postgresql"} or "://" not in DATABASE_URL:
    raise ImproperlyConfigured(
        "RUNSTEAD_DATABASE_URL: expected postgres://user:password@host:5432/name or sqlite:////absolute/path."
    )
if not DATABASE_URL.startswith("sqlite") and not find_spec("psycopg"):
    raise ImproperlyConfigured(
        "RUNSTEAD_DATABASE_URL: PostgreSQL needs the package psycopg. Install it: .venv/bin/uv pip install 'psycopg[binary]'"
    )
DATABASES: dict[str, dict[str, Any]] = {"default": environ.Env.db_url_config(DATABASE_URL)}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-65536;"
            "PRAGMA temp_store=MEMORY; PRAGMA mmap_size=268435456; PRAGMA journal_size_limit=67108864;"
        ),
    }
else:
    # A server that went away without a word (a cut link, a machine that lost its power) is noticed, and reached again.
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000,
        "application_name": "runstead", **DATABASES["default"].get("OPTIONS", {}),
    }  # fmt: skip
DATABASES["default"]["CONN_MAX_AGE"] = None
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# The doorbell. Messages are ids as JSON: whoever can write to the queue must not be able to run code.
# The embedded one has a password as well: the kernel's sandbox keeps a run from files, not from connecting to a socket.
REDIS_SOCKET = socket_path(DATA_DIR)
REDIS_EMBEDDED = not setting("REDIS_URL")
REDIS_PASSWORD_FILE = DATA_DIR / "keys" / "doorbell"
REDIS_URL = setting("REDIS_URL") or f"unix://:{generated(REDIS_PASSWORD_FILE)}@{REDIS_SOCKET}?db=0"
if not REDIS_URL.startswith(("redis://", "rediss://", "unix://")):
    raise ImproperlyConfigured("RUNSTEAD_REDIS_URL: expected redis://, rediss:// (TLS) or unix:// and an address.")
RQ_QUEUES = {
    "default": {"URL": REDIS_URL, "DEFAULT_TIMEOUT": -1, "SERIALIZER": "rq.serializers.JSONSerializer"},
}
RQ_SHOW_ADMIN_LINK = False
# One attends targets for as long as there are runs; the others do what comes up beside it.
WORKERS = integer("WORKERS", 2, 2, 64)
WEB_WORKERS = integer("WEB_WORKERS", 2, 1, 64)

# Blobs: code, outputs, ended logs.
STORAGE_URL = setting("STORAGE_URL") or f"file://{DATA_DIR / 'storage'}"
if not STORAGE_URL.startswith("file:///"):
    raise ImproperlyConfigured(f"RUNSTEAD_STORAGE_URL={STORAGE_URL!r}: expected file:///absolute/path.")
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {
            "location": STORAGE_URL.removeprefix("file://"),
            "file_permissions_mode": 0o600,
            "directory_permissions_mode": 0o700,
        },
    },
    "staticfiles": {"BACKEND": "studio.assets.HashedStaticFiles"},
}
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_FINDERS = [
    "django.contrib.staticfiles.finders.AppDirectoriesFinder",
    "studio.assets.NodePackageFinder",
]
NODE_MODULES = BASE_DIR / "node_modules"
WHITENOISE_SKIP_COMPRESS_EXTENSIONS = ["woff2", "woff", "png", "jpg", "gz", "map"]

# Limits that an administrator may change. Sizes are bytes.
SNAPSHOT_MAX_BYTES = integer("SNAPSHOT_MAX_BYTES", 10 * 1024**3, 1, 2**60)
SNAPSHOT_MAX_FILES = integer("SNAPSHOT_MAX_FILES", 200_000, 1, 10_000_000)
LOG_MAX_BYTES = integer("LOG_MAX_BYTES", 1024**3, 1024, 2**50)
OUTPUT_MAX_BYTES = integer("OUTPUT_MAX_BYTES", 50 * 1024**3, 1, 2**60)
# Answers that follow a log, a thread each, in one web process. The rest of its threads is for everybody else.
WEB_THREADS = 8
MAX_FOLLOWERS = integer("MAX_FOLLOWERS", 4, 0, WEB_THREADS - 1)
# Failures in a row after which a machine is left alone; 0: never.
QUARANTINE_AFTER = integer("QUARANTINE_AFTER", 5, 0, 1000)
SILENT_RUN_HOURS = integer("SILENT_RUN_HOURS", 24, 0, 8760)
DATA_UPLOAD_MAX_MEMORY_SIZE = 20 * 1024**2
FILE_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024**2
FILE_UPLOAD_PERMISSIONS = 0o600
FILE_UPLOAD_TEMP_DIR = str(private_dir(DATA_DIR / "tmp"))

# The local target runs below this folder, apart from keys, rows and blobs.
LOCAL_ROOT = DATA_DIR / "local"

# Who may enter.
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
LOGIN_URL = "/sign-in"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/sign-in"
PASSWORD_RESET_TIMEOUT = 24 * 3600
SESSION_COOKIE_AGE = 30 * 24 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
# Two studios on one machine (two ports) must not sign each other out: cookies do not know ports.
SESSION_COOKIE_NAME = f"runstead_session_{PORT}"
CSRF_COOKIE_NAME = f"runstead_csrf_{PORT}"
CSRF_COOKIE_SAMESITE = "Strict"
CSRF_FAILURE_VIEW = "studio.errors.csrf_failure"
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_HTTP_RESPONSE_CODE = 429
AXES_LOCKOUT_CALLABLE = "studio.errors.locked_out"
AXES_USERNAME_CALLABLE = "studio.accounts.tries.tried_email"
AXES_RESET_ON_SUCCESS = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_HSTS_SECONDS = 31536000 if SECURE else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if boolean("BEHIND_PROXY", False) else None
X_FRAME_OPTIONS = "DENY"

LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

UNFOLD = {
    "SITE_TITLE": "Runstead",
    "SITE_HEADER": "Runstead",
    "SITE_URL": "/",
    "DASHBOARD_CALLBACK": "environments.admin.dashboard",
    "BORDER_RADIUS": "6px",
    "COLORS": {
        "base": {
            "50": "#F6F7F9", "100": "#F0F2F5", "200": "#E3E6EB", "300": "#CFD4DC", "400": "#8C94A1", "500": "#626A77",
            "600": "#474E5A", "700": "#363D47", "800": "#242931", "900": "#13161A", "950": "#0C0E11",
        },
        "primary": {
            "50": "#EDF3FE", "100": "#E7EFFD", "200": "#C9DBFB", "300": "#9DBEF7", "400": "#82ABFF", "500": "#2A6BDB",
            "600": "#1C57CC", "700": "#174AB0", "800": "#15213A", "900": "#152440", "950": "#0C1730",
        },
    },
}  # fmt: skip

LOG_LEVEL = setting("LOG_LEVEL").upper()
if LOG_LEVEL and LOG_LEVEL not in logging.getLevelNamesMapping():
    raise ImproperlyConfigured(f"RUNSTEAD_LOG_LEVEL={LOG_LEVEL!r}: expected DEBUG, INFO, WARNING or ERROR.")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL or "WARNING"},
    "loggers": {
        "runstead": {"level": LOG_LEVEL or "INFO"},
        "rq": {"level": "ERROR"},
        "django.request": {"level": "ERROR"},  # a page that is not there, a form that is refused: no news
    },
}
