"""Addresses of the tracking server: at the root of the site, and below ``<workspace>/mlflow/`` for those who like to name it."""

from django.urls import URLPattern, URLResolver, include, path, re_path

from runs.mlflow import views

API = r"^(?:ajax-)?api/[23]\.0/"
calls: list[URLPattern | URLResolver] = [
    re_path(API + r"mlflow/server-(?:info|features)$", views.server_info),
    re_path(API + r"mlflow/(?P<name>(?s:.+))$", views.call),
    re_path(API + r"mlflow-artifacts/artifacts/?$", views.artifact_root),
    re_path(API + r"mlflow-artifacts/artifacts/(?P<path>(?s:.+))$", views.artifact),
    re_path(
        API + r"mlflow-artifacts/(?:mpu/(?:create|complete|abort)|presigned)/(?P<path>(?s:.+))$", views.no_multipart
    ),
    path("version", views.version),
    path("health", views.health),
]
urlpatterns: list[URLPattern | URLResolver] = [*calls, path("<slug:workspace>/mlflow/", include(calls))]
