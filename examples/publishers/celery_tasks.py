# A Celery worker that tells how far it is. Its pool forks: the publisher is made before, and opened after.
#
#     celery --workdir examples/publishers -A celery_tasks worker
#     python -c "import celery_tasks; celery_tasks.convert.delay(7)"    # in examples/publishers
#
# The broker is a folder here, so that the example needs no server. Yours is RabbitMQ or Redis.

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery

from sse_trio.publisher import Publisher

BROKER = Path(os.environ.get("BROKER_FOLDER", "broker"))
for folder in ("queue", "control"):
    (BROKER / folder).mkdir(parents=True, exist_ok=True)

app = Celery("celery_tasks", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": str(BROKER / "queue"),
    "data_folder_out": str(BROKER / "queue"),
    "control_folder": str(BROKER / "control"),
}

publisher = Publisher(os.environ.get("STORE", "events.sqlite"))


@app.task(acks_late=True)
def convert(video: int) -> None:
    """Convert a video."""
    for percent in (0, 50, 100):
        # A task that runs again, because its worker was killed, publishes nothing twice: the keys are the same.
        publisher.publish(f"videos/{video}", {"event": "progress", "data": percent}, key=(f"convert {video}", percent))
