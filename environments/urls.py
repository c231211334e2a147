"""Addresses of compute targets and environments, below a workspace's slug."""

from django.urls import URLPattern, URLResolver

app_name = "environments"
urlpatterns: list[URLPattern | URLResolver] = []
