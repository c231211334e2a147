"""Addresses of compute targets and environments, below a workspace's slug."""

from django.urls import URLPattern, URLResolver, path

from environments.views import attach, change, comparing, compute, software, storage, version

app_name = "environments"
urlpatterns: list[URLPattern | URLResolver] = [
    path("environments", software.listing, name="list"),
    path("environments/new", software.create, name="create"),
    path("environments/check", software.check, name="check"),
    path("environments/builds/<int:pk>/retry", version.retry, name="retry"),
    path("environments/builds/<int:pk>/cancel", version.cancel_build, name="cancel-build"),
    path("environments/<str:name>", version.newest, name="newest"),
    path("environments/<str:name>/new", software.new_version, name="new-version"),
    path("environments/<str:name>/archive", software.archive, name="archive"),
    path("environments/<str:name>/compare", comparing.page, name="compare"),
    path("environments/<str:name>/<int:number>", version.version, name="version"),
    path("environments/<str:name>/<int:number>/builds", version.version_builds, name="version-builds"),
    path("environments/<str:name>/<int:number>/build", version.build, name="build"),
    path("environments/<str:name>/<int:number>/lock", version.lock, name="lock"),
    path("environments/<str:name>/<int:number>/refresh", version.refresh, name="refresh"),
    path("environments/<str:name>/<int:number>/label", version.label, name="label"),
    path("environments/<str:name>/<int:number>/archive", version.archive_version, name="archive-version"),
    path("compute", compute.listing, name="compute"),
    path("compute/rows", compute.rows, name="compute-rows"),
    path("compute/attach", attach.begin, name="attach"),
    path("compute/attach/containers", change.containers, name="attach-containers"),
    path("compute/attach/<int:draft>/kind", attach.kind, name="attach-kind"),
    path("compute/attach/<int:draft>/address", attach.address, name="attach-address"),
    path("compute/attach/<int:draft>/access", attach.access, name="attach-access"),
    path("compute/attach/<int:draft>/test", attach.test, name="attach-test"),
    path("compute/attach/<int:draft>/check", attach.check, name="attach-check"),
    path("compute/attach/<int:draft>/finish", attach.finish, name="attach-finish"),
    path("compute/attach/<int:draft>/discard", attach.discard, name="attach-discard"),
    path("compute/<str:name>", compute.detail, name="target"),
    path("compute/<str:name>/live", compute.live, name="target-live"),
    path("compute/<str:name>/test", compute.test, name="target-test"),
    path("compute/<str:name>/drain", change.drain, name="target-drain"),
    path("compute/<str:name>/clean", storage.clean, name="target-clean"),
    path("compute/<str:name>/slots", change.slots, name="target-slots"),
    path("compute/<str:name>/edit", change.edit, name="target-edit"),
    path("compute/<str:name>/access", change.access, name="target-access"),
    path("compute/<str:name>/rotate", change.rotate, name="target-rotate"),
    path("compute/<str:name>/root", change.accept_root, name="target-root"),
]
