"""A redis store and its client, which writes over a Unix socket without pause, knows what each key has to hold, and looks at all
of them after SIGUSR1.

Arguments: output, MiB of values, a network namespace to be in or nothing.
"""
import array
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time

KEYS_PER_MIB = 256
# With what the store adds it fills a page.
WORDS = 500
BATCH = 100

out = open(sys.argv[1], "a", buffering=1)
count = int(sys.argv[2]) * KEYS_PER_MIB
# Keys that are set in a second, nine of ten of them in a twentieth of the store: 10,000 of 500 MiB.
rate = 20 * int(sys.argv[2])
asked = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(True))
if len(sys.argv) > 3:
    with open(sys.argv[3]) as place:
        assert ctypes.CDLL(None, use_errno=True).setns(place.fileno(), 0) == 0, ctypes.get_errno()
folder = os.path.dirname(sys.argv[1])
path = folder + "/store.socket"
words = f"redis-server --port 0 --unixsocket {path} --save --appendonly no --dir {folder}".split(" ")
words.insert(words.index("--save") + 1, "")
quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
store = subprocess.Popen(words, **quiet)
client = socket.socket(socket.AF_UNIX)
while True:
    try:
        client.connect(path)
        break
    except OSError:
        assert store.poll() is None, "the store has ended"
        time.sleep(0.01)
answers = client.makefile("rb")
held = array.array("Q", bytes(8 * count))


def value(key):
    return (key << 40 | held[key]).to_bytes(8, "big") * WORDS


def ask(words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def put(keys):
    client.sendall(b"".join(ask([b"SET", b"%d" % key, value(key)]) for key in keys))
    for key in keys:
        line = answers.readline()
        assert line == b"+OK\r\n", (key, line)


def is_right(key):
    client.sendall(ask([b"GET", b"%d" % key]))
    size = int(answers.readline()[1:])
    return size >= 0 and answers.read(size + 2)[:-2] == value(key)


def some():
    return random.randrange(count // 20 if random.random() < 0.9 else count)


for first in range(0, count, BATCH):
    put(range(first, min(first + BATCH, count)))
print("READY", file=out)
began, batches = time.monotonic(), 0
while not asked:
    keys = list({some() for _ in range(BATCH)})
    for key in keys:
        held[key] += 1
    put(keys)
    batches += 1
    ahead = began + batches * BATCH / rate - time.monotonic()
    if ahead > 0:
        time.sleep(ahead)
    elif ahead < -1:
        # It was away.
        began, batches = time.monotonic(), 0
wrong = [key for key in range(count) if not is_right(key)]
store.kill()
store.wait()
print(f"FAIL: {len(wrong)} of {count} keys are wrong, {wrong[:5]}" if wrong else "PASS", file=out)
