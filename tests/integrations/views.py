"""Sign-in endpoints as sites write them."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.auth import aauthenticate, alogin, alogout, authenticate, login, logout
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, JsonResponse
from rest_framework import serializers
from rest_framework.authentication import BasicAuthentication, SessionAuthentication, TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.authtoken.views import ObtainAuthToken
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.exceptions import APIException, AuthenticationFailed
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer, TokenRefreshSerializer
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView, TokenViewBase, token_obtain_pair

from otel_audit.integrations.rest_framework_simplejwt import DRFAuditTrailIntegrationMixin

# ── SimpleJWT ───────────────────────────────────────────────────────────────────────────────────


class _SecondFactorSerializer(TokenObtainPairSerializer):
    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        super().validate(attrs)
        raise AuthenticationFailed("The code is wrong.", "second_factor")


class SecondFactor(TokenObtainPairView):
    serializer_class = _SecondFactorSerializer


class OwnPost(TokenObtainPairView):
    """Does all by itself, and hides the tokens in cookies."""

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        serializer = self.get_serializer(data=request.data)
        if not serializer.is_valid():
            return Response(status=400)
        response = Response(status=204)
        response.set_cookie("access", serializer.validated_data["access"])
        return response


class _OneTimeSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        self.user = User.objects.get(username=attrs["code"])
        return {"access": "made by hand"}


class OwnSerializer(TokenViewBase):
    serializer_class = _OneTimeSerializer


class _Never(BaseThrottle):
    def allow_request(self, request: Request, view: APIView) -> bool:
        return False

    def wait(self) -> float:
        return 60.0


class Throttled(TokenObtainPairView):
    throttle_classes = [_Never]


class _CookieSerializer(TokenRefreshSerializer):
    refresh = serializers.CharField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        return super().validate({"refresh": self.context["request"].COOKIES["refresh"]})


class RefreshFromCookie(TokenRefreshView):
    serializer_class = _CookieSerializer


class ObtainWithSession(TokenObtainPairView):
    """Signs in by a session too."""

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        response = super().post(request, *args, **kwargs)
        login(request._request, User.objects.get(username=request.data["username"]))
        return response


def composed(request: HttpRequest) -> Any:
    """One view that calls another."""
    return token_obtain_pair(request)


@api_view(["POST"])
@permission_classes([AllowAny])
def own_refresh(request: Request) -> Response:
    serializer = TokenRefreshSerializer(data=request.data)
    serializer.is_valid(raise_exception=True)
    return Response(serializer.validated_data)


@api_view(["POST"])
@permission_classes([AllowAny])
def own_refresh_that_fails(request: Request) -> Response:
    TokenRefreshSerializer(data=request.data).is_valid(raise_exception=True)
    return Response(status=403)


@api_view(["POST"])
@permission_classes([AllowAny])
def revoke(request: Request) -> Response:
    RefreshToken(request.data["refresh"]).blacklist()
    return Response(status=204)


@api_view(["POST"])
@permission_classes([AllowAny])
def custom_jwt(request: Request) -> Response:
    user = authenticate(username=request.data["username"], password=request.data["password"])
    if user is None:
        return Response(status=401)
    refresh = RefreshToken.for_user(user)
    AccessToken.for_user(user)
    return Response({"refresh": str(refresh)})


@api_view(["POST"])
@permission_classes([AllowAny])
def custom_jwt_refused(request: Request) -> Response:
    RefreshToken.for_user(User.objects.get(username=request.data["username"]))
    return Response(status=403)


class _MailToken(AccessToken):
    token_type = "mail"


@api_view(["POST"])
@permission_classes([AllowAny])
def mail_link(request: Request) -> Response:
    _MailToken.for_user(User.objects.get(username="ada"))
    return Response(status=204)


@api_view(["POST"])
@permission_classes([IsAuthenticated])
def jwt_for_another(request: Request) -> Response:
    RefreshToken.for_user(User.objects.get(username="bob"))
    return Response(status=204)


# ── REST framework ──────────────────────────────────────────────────────────────────────────────


class CustomAuthToken(ObtainAuthToken):
    """The example of REST framework's documentation."""

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        serializer = self.serializer_class(data=request.data, context={"request": request})
        serializer.is_valid(raise_exception=True)
        user = serializer.validated_data["user"]
        token, _ = Token.objects.get_or_create(user=user)
        return Response({"token": token.key, "user_id": user.pk})


class Who(APIView):
    """An ordinary view that any credentials open."""

    authentication_classes = [BasicAuthentication, JWTAuthentication, TokenAuthentication, SessionAuthentication]

    def get(self, request: Request) -> Response:
        return Response({"user": str(request.user)})


class Refused(APIView):
    """Raises what REST framework turns into a response by itself."""

    def get(self, request: Request) -> Response:
        raise APIException("the shelf is empty", "empty_shelf")


@api_view(["GET"])
@authentication_classes([])
@permission_classes([AllowAny])
def plain(request: Request) -> Response:
    return Response({"hello": "world"})


# ── sessions ────────────────────────────────────────────────────────────────────────────────────


def session_login(request: HttpRequest) -> HttpResponse:
    form = AuthenticationForm(request, data=request.POST)
    if not form.is_valid():
        return HttpResponse(status=401)
    login(request, form.get_user())
    return HttpResponse(status=204)


async def async_login(request: HttpRequest) -> HttpResponse:
    user = await aauthenticate(request, username=request.POST["username"], password=request.POST["password"])
    if user is None:
        return HttpResponse(status=401)
    await alogin(request, user)
    return HttpResponse(status=204)


def batch_login(request: HttpRequest) -> HttpResponse:
    """Tries several passwords for one name, as a batched GraphQL mutation can."""
    for password in request.POST.getlist("password"):
        authenticate(request, username=request.POST["username"], password=password)
    return HttpResponse(status=204)


def hello(request: HttpRequest) -> HttpResponse:
    """Answers whoever asks, without asking who it is."""
    return HttpResponse("hello")


def ask_again(request: HttpRequest) -> HttpResponse:
    """Asks who is signed in for the password, as before a payment."""
    user = authenticate(request, username=request.user.get_username(), password=request.POST["password"])
    return HttpResponse(status=403 if user is None else 204)


def session_logout(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse(status=204)


async def async_logout(request: HttpRequest) -> HttpResponse:
    await alogout(request)
    return HttpResponse(status=204)


def delete_me(request: HttpRequest) -> HttpResponse:
    request.user.delete()
    logout(request)
    return HttpResponse(status=204)


# ── views that send no signal ───────────────────────────────────────────────────────────────────


def silent_login(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=int(request.POST["status"]))


def silent_json_login(request: HttpRequest) -> HttpResponse:
    try:
        return HttpResponse(status=json.loads(request.body)["status"])
    except ValueError:
        return HttpResponse(status=401)


def says_so_in_meta(request: HttpRequest) -> JsonResponse:
    request.META["drf_login_audit_event"]["status"] = request.POST["status"]
    if name := request.POST.get("user"):
        request.META["drf_request_audit_event"]["user"] = User.objects.get(username=name)
    return JsonResponse({})


# ── drf-audit-trail's ───────────────────────────────────────────────────────────────────────────


class Generic(DRFAuditTrailIntegrationMixin, GenericAPIView):  # type: ignore[type-arg]  # of no model
    serializer_class = TokenObtainPairSerializer
    permission_classes = [AllowAny]
