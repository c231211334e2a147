"""All addresses of the site. The only place, beside the settings, that names every app."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from studio import views
from studio.api import api

handler400 = "studio.errors.bad_request"
handler403 = "studio.errors.forbidden"
handler404 = "studio.errors.not_found"
handler500 = "studio.errors.server_error"

urlpatterns: list[URLPattern | URLResolver] = [
    path("", views.front, name="front"),
    path("healthz", views.healthz, name="healthz"),
    path("admin/login/", views.admin_door),
    path("admin/", admin.site.urls),
    path("api/v1/", api.urls),
    path("", include("runs.mlflow.urls")),
    path("", include("studio.accounts.urls")),
    path("", include("studio.workspaces.urls")),
    path("<slug:slug>/capacity", views.capacity, name="capacity"),
    path("<slug:slug>/jump", views.jump, name="jump"),
    path("<slug:slug>/", include("runs.urls")),
    path("<slug:slug>/", include("environments.urls")),
]
