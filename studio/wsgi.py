"""The web application, served by any number of processes."""

import os

from django.core.wsgi import get_wsgi_application

from studio.hardening import hide_from_neighbours

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "studio.settings")
hide_from_neighbours()
application = get_wsgi_application()
