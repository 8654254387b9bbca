"""Addresses of the library."""

from django.contrib import admin
from django.urls import path

from library import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("books/", views.catalogue),
    path("books/export/", views.export),
    path("books/<int:pk>/", views.book),
    path("books/<int:pk>/availability/", views.availability),
    path("books/<int:pk>/lend/", views.lend),
    path("sign-in/", views.sign_in),
    path("sign-out/", views.sign_out),
    path("reading-room/", views.closed_reading_room),
]
