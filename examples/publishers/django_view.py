# A Django view, under WSGI, that tells the subscribers of a streaming server what a user has done.
#
#     python examples/publishers/django_view.py
#     curl -X POST http://127.0.0.1:8001/videos/7/like
#
# A whole project in one file. In yours, the publisher is a global of the module of the view.

from __future__ import annotations

import os
import secrets
from wsgiref.simple_server import make_server

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from sse_trio import ServerSentEvent
from sse_trio.publisher import Publisher

publisher = Publisher(os.environ.get("STORE", "events.sqlite"))


@csrf_exempt
@require_POST
def like(request: HttpRequest, video: int) -> HttpResponse:
    """Tell who watches the video that somebody likes it."""
    publisher.publish(f"videos/{video}", ServerSentEvent.json({"likes": 1}, event="like"))
    return HttpResponse(status=204)


urlpatterns = [path("videos/<int:video>/like", like)]

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"], SECRET_KEY=secrets.token_urlsafe())
django.setup()
application = get_wsgi_application()

if __name__ == "__main__":
    with make_server("127.0.0.1", int(os.environ.get("PORT", "8001")), application) as server:
        print(f"running on http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
