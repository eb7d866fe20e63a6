"""A shell in a terminal of ours, typed to: a pipeline, jobs in the background, ^Z and fg. Argument: where to say how it went."""
import fcntl, os, select, signal, struct, sys, termios, time

OUTPUT = sys.argv[1]
GO = os.path.join(os.path.dirname(OUTPUT), "go")
PATIENCE = 60


def say(words):
    with open(OUTPUT, "a") as output:
        output.write(words + "\n")


def open_pair():
    """The kernel gives the lowest number that is free; others are not likely to take a high one meanwhile."""
    held, wanted = [], 600 + os.getpid() * 7 % 200
    while True:
        pair = os.openpty()
        if int(os.ttyname(pair[1]).rsplit("/", 1)[1]) >= wanted or len(held) > 400:
            break
        held.append(pair)
    for master, slave in held:
        os.close(master)
        os.close(slave)
    return pair


def shell(slave):
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(slave, fd)
    os.closerange(3, 100)
    os.environ.update(PS1="@ ", TERM="dumb", HISTFILE="/dev/null")
    os.execvp("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"])


def read(until):
    global seen
    end = time.time() + PATIENCE
    while until not in seen:
        if time.time() > end:
            raise SystemExit(say("FAIL: no %r in %r" % (until, seen)))
        if select.select([master], [], [], 0.2)[0]:
            seen += os.read(master, 4096)
    text, seen = seen.split(until, 1)
    return text


def type_line(words):
    os.write(master, words.encode() + b"\n")


def check(condition, words):
    if not condition:
        say("FAIL: " + words)
        sys.exit(1)


master, slave = open_pair()
fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
seen = b""
pid = os.fork()
if pid == 0:
    shell(slave)
os.close(slave)
read(b"@ ")
type_line("X=forty; sleep 1000 & sleep 2000 &")
read(b"@ ")
type_line("while [ ! -e %s ]; do echo 1; sleep 0.05; done | sed s/1/2/ | tr 2 3 | (tail -n 1; echo end-$X)" % GO)
read(b"end-$X")
say("READY")
text = read(b"end-forty")
check(b"3\r\n" in text, "the pipeline gave %r" % text)
read(b"@ ")
type_line("jobs; stty size; echo over$((1+1))")
text = read(b"over2\r\n")
check(text.count(b"Running") == 2 and b"33 99" in text, "jobs are %r" % text)
type_line("fg %1")
read(b"sleep 1000\r\n")
time.sleep(0.5)
os.write(master, b"\x1a")
read(b"Stopped")
type_line("kill %1 %2; wait; exit 7")
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
check(status == 7, "the shell ended with %d" % status)
say("PASS")
