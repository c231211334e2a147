from django.urls import path

from studio.accounts import views

app_name = "accounts"
urlpatterns = [
    path("sign-in", views.sign_in, name="sign-in"),
    path("sign-in/link", views.use_link, name="use-link"),
    path("sign-in/link/<str:uid>/<str:token>", views.open_link, name="open-link"),
    path("sign-out", views.sign_out, name="sign-out"),
    path("account", views.account, name="account"),
    path("account/password", views.password, name="password"),
]
