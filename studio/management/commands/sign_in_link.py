from typing import Any

from django.core.management.base import BaseCommand, CommandError

from studio.accounts.links import sign_in_link
from studio.accounts.models import User


class Command(BaseCommand):
    help = "Print an address that signs a person in once, for example after a forgotten password."
    requires_system_checks = []  # `up` has run them; loading every page would cost a second

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("email", nargs="?", help="whom to sign in; the first owner when left out")
        parser.add_argument("--if-needed", action="store_true", help="only when that person has no password yet")

    def handle(self, *args: Any, **options: Any) -> str:
        people = User.objects.filter(is_active=True)
        if options["email"]:
            user = people.filter(email=options["email"].lower()).first()
        else:
            user = people.filter(is_superuser=True).order_by("pk").first()
        if user is None:
            raise CommandError(f"There is no active person with the email {options['email']}.")
        if options["if_needed"] and user.has_usable_password():
            return ""
        return sign_in_link(user)
