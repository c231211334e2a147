from django.urls import path

from studio.workspaces import views

app_name = "workspaces"
urlpatterns = [
    path("workspaces/new", views.create, name="create"),
    path("<slug:slug>/settings", views.settings, name="settings"),
    path("<slug:slug>/settings/general", views.general, name="general"),
    path("<slug:slug>/settings/members", views.members, name="members"),
    path("<slug:slug>/settings/members/<int:pk>", views.member_change, name="member-change"),
    path("<slug:slug>/settings/members/<int:pk>/remove", views.member_remove, name="member-remove"),
    path("<slug:slug>/settings/members/<int:pk>/link", views.member_link, name="member-link"),
    path("<slug:slug>/settings/tokens", views.tokens, name="tokens"),
    path("<slug:slug>/settings/tokens/<int:pk>/revoke", views.token_revoke, name="token-revoke"),
    path("<slug:slug>/settings/secrets", views.secrets, name="secrets"),
    path("<slug:slug>/settings/secrets/<int:pk>/delete", views.secret_delete, name="secret-delete"),
]
