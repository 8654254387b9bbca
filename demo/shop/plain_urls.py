"""Addresses of the shop without its processes: all that works without otel-audit installed."""

from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.urls import include, path
from rest_framework.routers import SimpleRouter
from rest_framework_simplejwt.views import TokenBlacklistView, TokenObtainPairView, TokenRefreshView

from shop import views

router = SimpleRouter()
router.register("products", views.ProductViewSet)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/health/", views.health),
    path("api/token/", TokenObtainPairView.as_view()),
    path("api/token/refresh/", TokenRefreshView.as_view()),
    path("api/token/blacklist/", TokenBlacklistView.as_view()),
    path("api/sign-out/", views.SignOutView.as_view()),
    path("api/price-list/", views.price_list),
    path("api/stock/<slug:sku>/", views.stock),
    path("api/crash/", views.CrashView.as_view()),
    path("api/", include(router.urls)),
    # A site of your own lets its web server do this.
    path("static/<path:path>", serve, {"insecure": True}),
]
