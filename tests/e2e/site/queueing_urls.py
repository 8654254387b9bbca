"""The views of the page on Celery."""

from django.urls import path

from shop.views import order, parcel

urlpatterns = [path("order/", order), path("parcel/", parcel)]
