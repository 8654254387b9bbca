"""URLs of the views that the request tests call."""

from __future__ import annotations

from django.urls import path

from . import views
from .views import Annotated, Crash, Deaf, Echo, Invalid, Who

_PLAIN = [
    "hello", "ahello", "slow", "whoami", "awhoami", "echo", "form", "deaf", "protected", "crash", "acrash", "missing",
    "denied", "broken", "meta_extra", "meta_extra_crash", "meta_extra_odd", "meta_extra_text",
    "meta_replaced", "meta_extra_empty", "meta_extra_none", "annotated", "annotated_crash", "stream",
    "astream", "stream_crash", "astream_crash", "astream_endless", "stream_process", "file", "endless",
    "spoil_meta", "clear_meta", "spoil_method", "spoil_path", "spoil_user", "delete_user",
    "ask_then_spoil_user", "broken_user", "login_event", "hostile_extra", "hostile_meta_extra",
    "recursive_extra", "hostile_exception", "hostile_name", "no_response", "leave_process",
    "login_event_inside", "leave_span", "one_step", "call", "call_in_process",
]  # fmt: skip

urlpatterns = [
    *(path(f"{name}/", getattr(views, name), name=name) for name in _PLAIN),
    path("item/<int:pk>/", views.item),
    path("ending/<where>/<how>/", views.ending),
    path("static/logo.png", views.hello),
    path("static/missing.png", views.missing),
    path("static/crash/", views.crash),
    path("static/denied/", views.denied),
    path("static/broken/", views.broken),
    path("static/login/", views.login_event),
    path("static/login_inside/", views.login_event_inside),
    path("static/process/", views.run_process),
    path("api/who/", Who.as_view()),
    path("api/deaf/", Deaf.as_view()),
    path("api/invalid/", Invalid.as_view()),
    path("api/crash/", Crash.as_view()),
    path("api/echo/", Echo.as_view()),
    path("api/annotated/", Annotated.as_view()),
]
