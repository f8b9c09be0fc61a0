"""What kazoo makes of a server, for tests.

kazoo.py --hosts H1:P,H2:P [--auth USER:PASSWORD] [--ca FILE --cert FILE --key FILE] WORDS…
    get PATH            prints the value
    put PATH VALUE      sets it, or makes the node, and those above it
    children PATH       prints their names, one a line, in order
    lock PATH [ID]      waits for a lock, prints "held", and lets go when its input ends
    elect PATH ID       waits for its turn to lead, prints "leads", and lets go when its input ends
"""

import argparse
import logging
import sys

# This directory comes first, and this file is called like the library.
sys.path.pop(0)

from kazoo.client import KazooClient  # noqa: E402

# What other clients than kazoo call their places.
OTHERS = ["-lock-", "-latch-"]


def client(options):
    secure = {}
    if options.ca:
        secure.update(use_ssl=True, ca=options.ca, verify_certs=True)
    if options.cert:
        secure.update(certfile=options.cert, keyfile=options.key)
    auth = [("digest", options.auth)] if options.auth else None
    kazoo = KazooClient(options.hosts, timeout=10, auth_data=auth, **secure)
    kazoo.start(timeout=10)
    return kazoo


def hold(word):
    print(word, flush=True)
    sys.stdin.read()


def run(kazoo, verb, path, *rest):
    if verb == "get":
        print(kazoo.get(path)[0].decode())
    elif verb == "put":
        kazoo.ensure_path(path)
        kazoo.set(path, rest[0].encode())
    elif verb == "children":
        print("\n".join(sorted(kazoo.get_children(path))))
    elif verb == "lock":
        with kazoo.Lock(path, *rest, extra_lock_patterns=OTHERS):
            hold("held")
    elif verb == "elect":
        kazoo.Election(path, *rest).run(hold, "leads")
    else:
        sys.exit(f"unknown verb {verb}")


def main():
    parser = argparse.ArgumentParser()
    for name in ["hosts", "auth", "ca", "cert", "key"]:
        parser.add_argument(f"--{name}")
    parser.add_argument("words", nargs="+")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    kazoo = client(options)
    try:
        run(kazoo, *options.words)
    finally:
        kazoo.stop()
        kazoo.close()


main()
