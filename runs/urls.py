"""Addresses of experiments and runs, below a workspace's slug."""

from django.urls import URLPattern, URLResolver

app_name = "runs"
urlpatterns: list[URLPattern | URLResolver] = []
