"""The web application, served by any number of processes."""

import os

from django.core.wsgi import get_wsgi_application

from studio.hardening import die_with_parent, hide_from_neighbours

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "studio.settings")
hide_from_neighbours()
die_with_parent()  # a worker whose server is gone would answer on its port for ever
application = get_wsgi_application()
