"""Addresses of experiments and runs, below a workspace's slug. Each module of views lists its own."""

from importlib import import_module
from importlib.util import find_spec

from django.urls import URLPattern, URLResolver

app_name = "runs"
MODULES = ("home", "lists", "experiments", "compose", "detail", "files", "logs", "metrics", "detach", "models")

urlpatterns: list[URLPattern | URLResolver] = []
for module in MODULES:
    if find_spec(f"runs.views.{module}"):
        urlpatterns += import_module(f"runs.views.{module}").urlpatterns
