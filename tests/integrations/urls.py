"""URLs of the sign-in endpoints that the tests call."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.views import PasswordResetConfirmView, PasswordResetView
from django.urls import path
from rest_framework.authtoken.views import obtain_auth_token
from rest_framework_simplejwt import views as simplejwt

from otel_audit.api.views import logout_api_view
from otel_audit.integrations.rest_framework_authenticators import DRFAuditTrailTokenAuthentication
from otel_audit.integrations.rest_framework_simplejwt import DRFAuditTrailTokenObtainPairView

from . import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("token/", simplejwt.token_obtain_pair),
    path("token/refresh/", simplejwt.token_refresh),
    path("token/verify/", simplejwt.token_verify),
    path("token/blacklist/", simplejwt.token_blacklist),
    path("token/sliding/", simplejwt.token_obtain_sliding),
    path("token/sliding/refresh/", simplejwt.token_refresh_sliding),
    path("token/second-factor/", views.SecondFactor.as_view()),
    path("token/own-post/", views.OwnPost.as_view()),
    path("token/own-serializer/", views.OwnSerializer.as_view()),
    path("token/throttled/", views.Throttled.as_view()),
    path("token/cookie/", views.RefreshFromCookie.as_view()),
    path("token/own-refresh/", views.own_refresh),
    path("token/own-rotation/", views.own_refresh_that_fails),
    path("token/revoke/", views.revoke),
    path("token/with-session/", views.ObtainWithSession.as_view()),
    path("token/composed/", views.composed),
    path("jwt/", views.custom_jwt),
    path("jwt/refused/", views.custom_jwt_refused),
    path("jwt/mail-link/", views.mail_link),
    path("jwt/for-another/", views.jwt_for_another),
    path("auth-token/", obtain_auth_token),
    path("auth-token/custom/", views.CustomAuthToken.as_view()),
    path("login/", views.session_login),
    path("alogin/", views.async_login),
    path("login/twice/", views.batch_login),
    path("login/again/", views.ask_again),
    path("logout/", views.session_logout),
    path("alogout/", views.async_logout),
    path("logout/and-delete/", views.delete_me),
    path("reset/", PasswordResetView.as_view(success_url="/plain/")),
    path(
        "reset/<uidb64>/<token>/",
        PasswordResetConfirmView.as_view(success_url="/plain/", post_reset_login=True),
        name="password_reset_confirm",
    ),
    path("who/", views.Who.as_view()),
    path("plain/", views.plain),
    path("hello/", views.hello),
    path("refused/", views.Refused.as_view()),
    path("sso/", views.silent_login),
    path("sso/json/", views.silent_json_login),
    path("meta/", views.says_so_in_meta),
    path("old/token/", DRFAuditTrailTokenObtainPairView.as_view()),
    path("old/generic/", views.Generic.as_view()),
    path("old/auth-token/", DRFAuditTrailTokenAuthentication.as_view()),
    path("old/logout/", logout_api_view),
]
