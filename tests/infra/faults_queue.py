#!/usr/bin/env python3
"""Hold back the packets of one netfilter queue, for kernels without netem.

    faults_queue.py QUEUE [delay=MS] [jitter=MS] [loss=PERCENT] [rate=KBIT]

Packets that an iptables rule sends to NFQUEUE wait here for their verdict:
delay and jitter are per direction, loss drops at random, and rate spaces
packets as a line of that speed would, each direction on its own.
"""

import heapq
import os
import random
import select
import socket
import struct
import sys
import time

NETLINK_NETFILTER, SUBSYSTEM = 12, 3
PACKET, VERDICT, CONFIG = 0, 1, 2
DROP, ACCEPT = 0, 1
LOCAL_IN = 1  # the hook that incoming packets were caught at


def attribute(kind, data):
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def message(kind, queue, *attributes, flags=1):
    body = struct.pack("=BB", 0, 0) + struct.pack(">H", queue) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), SUBSYSTEM << 8 | kind, flags, 0, 0) + body


def packets(data):
    """The (id, hook, size) of each packet in what the kernel sent."""
    while len(data) >= 20:
        length, kind = struct.unpack_from("=IH", data)
        if kind == SUBSYSTEM << 8 | PACKET:
            ident = hook = size = None
            at = 20
            while at + 4 <= length:
                alen, atype = struct.unpack_from("=HH", data, at)
                if atype & 0x7FFF == 1:
                    ident, _, hook = struct.unpack_from(">IHB", data, at + 4)
                elif atype & 0x7FFF == 10:
                    size = struct.unpack_from(">H", data, at + 6)[0]  # the IP header's total length
                at += (alen + 3) & ~3
            if ident is not None:
                yield ident, hook, size or 65535
        data = data[(length + 3) & ~3 :]


def main():
    queue = int(sys.argv[1])
    wish = dict(delay=0.0, jitter=0.0, loss=0.0, rate=0.0)
    for argument in sys.argv[2:]:
        name, _, value = argument.partition("=")
        if name not in wish:
            sys.exit(f"unknown setting {argument}")
        wish[name] = float(value)
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    link.bind((0, 0))
    for attributes in (
        attribute(1, struct.pack(">BBH", 1, 0, 0)),  # bind
        attribute(2, struct.pack(">IB", 20, 2)),  # copy the IP header
        attribute(3, struct.pack(">I", 10000)),  # queue length
        attribute(5, struct.pack(">I", 5))
        + attribute(4, struct.pack(">I", 5)),  # when full pass on; keep large packets whole
    ):
        link.send(message(CONFIG, queue, attributes, flags=5))  # with an answer
        error = struct.unpack_from("=i", link.recv(4096), 16)[0]
        if error:
            sys.exit(f"queue {queue}: {os.strerror(-error)}")
    print("ready", flush=True)

    waiting, order, free_at = [], 0, {}
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        if select.select([link], [], [], timeout)[0]:
            try:
                data = link.recv(1 << 20)
            except OSError:  # more came than the socket holds: TCP will send it again
                continue
            now = time.monotonic()
            for ident, hook, size in packets(data):
                if random.random() * 100 < wish["loss"]:
                    link.send(message(VERDICT, queue, attribute(2, struct.pack(">II", DROP, ident))))
                    continue
                due = now
                if wish["rate"]:
                    due = max(now, free_at.get(hook, 0)) + size * 8 / (wish["rate"] * 1000)
                    free_at[hook] = due
                due += max(0.0, wish["delay"] + random.uniform(-1, 1) * wish["jitter"]) / 1000
                order += 1
                heapq.heappush(waiting, (due, order, ident))
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            link.send(message(VERDICT, queue, attribute(2, struct.pack(">II", ACCEPT, heapq.heappop(waiting)[2]))))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
