"""MLflow's tracking protocol beside the script: what `mlflow` logs becomes lines of `records.jsonl` and files
of `artifacts/`.

One run, one server, on loopback. It knows no studio: everything it takes is a file first, so the target may
be cut off.
"""

import socket
import threading

from .api import Api
from .http import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_CONNECTIONS = 512


def serve(sock: socket.socket, context: "Any") -> None:
    """Answer on the listening loopback socket `sock` until it is closed. A thread per connection.

    `context` has `run_dir` (str), `tracking` (run_id, experiment_id, experiment, user), `token` (str) and
    `started_at` (unix seconds).
    """
    api = Api(context)
    slots = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def attend(client: socket.socket) -> None:
        try:
            Connection(client, api).serve()
        finally:
            slots.release()

    sock.setblocking(True)
    while True:
        slots.acquire()
        try:
            client, _ = sock.accept()
        except OSError:
            slots.release()
            if sock.fileno() < 0:
                return
            # Out of descriptors, or a client that left at once: wait a little instead of spinning.
            threading.Event().wait(0.05)
            continue
        try:
            threading.Thread(target=attend, args=(client,), name="tracking", daemon=True).start()
        except (
            RuntimeError
        ):  # no more threads for this user: the client is told by the closed connection and tries again
            client.close()
            slots.release()
