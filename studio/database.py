"""Telling a database that is away from a row that is refused."""

from django.db import InterfaceError, OperationalError

# Busy, restarted, or not reachable: the same statement may succeed in a moment. Everything else that a database refuses
# (an IntegrityError, say) is an error of ours and must be seen.
AWAY = (OperationalError, InterfaceError)
