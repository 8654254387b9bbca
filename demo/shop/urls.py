"""All addresses of the shop: the audited processes first, then the plain ones."""

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from shop import processes

router = SimpleRouter()
router.register("products", processes.ProductCreation)

urlpatterns = [
    path("api/", include(router.urls)),
    path("api/checkout/", processes.CheckoutView.as_view()),
    path("api/restock/<slug:sku>/", processes.RestockView.as_view()),
    path("", include("shop.plain_urls")),
]
