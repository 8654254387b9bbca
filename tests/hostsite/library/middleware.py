"""What every page of the library says."""


class OpeningHoursMiddleware:
    """Says in a header when the library is open."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        response = self.get_response(request)
        response["X-Opening-Hours"] = "9-17"
        return response
