"""What peers in Python have in common; `src/docs/performance.md` says what a peer has to do."""

import statistics
import sys
import threading
import time

# Pairs that are timed, and some before them that are not.
PAIRS = 300
UNTIMED = 30
# How long waiters may take to stand in line.
IN_LINE = 2


def measure(peer, backend, lock, client):
    """`client(address)` makes a client, and `lock(client)` the lock that all want, with `acquire` and `release`."""
    metric, asked, address = sys.argv[1:]
    if asked != backend:
        return
    if metric == "lock-pair":
        value = lock_pair(lock(client(address)))
    elif metric.startswith("hand-over-") and metric[10:].isdigit():
        locks = [lock(client(address)) for _ in range(int(metric[10:]) + 1)]
        value = hand_over(locks)
    else:
        return
    print(peer, backend, metric, f"{value * 1e6:.1f}", "µs", flush=True)


def lock_pair(lock):
    took = []
    for _ in range(UNTIMED + PAIRS):
        began = time.perf_counter()
        lock.acquire()
        lock.release()
        took.append(time.perf_counter() - began)
    return statistics.median(took[UNTIMED:])


def hand_over(locks):
    held, *waiting = locks

    def turn(lock):
        lock.acquire()
        lock.release()

    held.acquire()
    threads = [threading.Thread(target=turn, args=[lock]) for lock in waiting]
    for thread in threads:
        thread.start()
    time.sleep(IN_LINE)
    began = time.perf_counter()
    held.release()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - began) / len(waiting)


def processes(peer, metric, holder, waiter):
    """The same with processes: `holder` is a running one that holds, and lets go when its input ends."""
    count = int(metric[10:])
    waiting = [waiter() for _ in range(count)]
    time.sleep(IN_LINE + count / 50)
    began = time.perf_counter()
    holder()
    for process in waiting:
        process.wait()
    each = (time.perf_counter() - began) / count
    print(peer, sys.argv[2], metric, f"{each * 1e6:.1f}", "µs", flush=True)
