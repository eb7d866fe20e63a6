"""A daemon that has forked twice: the leader of its session has gone. It serves a Unix socket, has workers in its group and in others,
and is carried through ten cycles of dump and restore. Arguments: orchestrator, folder."""
import ctypes, os, signal, socket, subprocess, sys, time

ORCHESTRATOR, FOLDER = sys.argv[1:3]
SOCKET, CYCLES, ANSWER = FOLDER + "/socket", 10, 4096
PR_SET_CHILD_SUBREAPER = 36


def standing(pid):
    return [os.getpgid(pid), os.getsid(pid)]


def has_terminal():
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
        return True
    except OSError:
        return False


def wait_for(signal_read):
    os.read(signal_read, 1)


def workers():
    """One in the daemon's group, one that leads a group, and a child of that which is still in the daemon's."""
    read, write = os.pipe()
    plain = os.fork()
    if plain == 0:
        while True:
            signal.pause()
    leader = os.fork()
    if leader == 0:
        left = os.fork()
        if left == 0:
            while True:
                signal.pause()
        os.setpgid(0, 0)
        os.write(write, b"%d\n" % left)
        while True:
            signal.pause()
    left = int(os.read(read, 100))
    os.close(read)
    os.close(write)
    return [plain, leader, left]


def serve():
    children = workers()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(SOCKET)
    listener.listen()
    count = 0
    while True:
        client, _ = listener.accept()
        count += 1
        facts = [count, has_terminal(), os.getpid(), [standing(0)] + [standing(pid) for pid in children], children]
        client.sendall(repr(facts).encode())
        client.close()


def daemon():
    first = os.fork()
    if first == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 1000)
            null = os.open("/dev/null", os.O_RDWR)
            os.dup2(null, 1)
            os.dup2(null, 2)
            os.chdir("/")
            serve()
        os._exit(0)
    os.waitpid(first, 0)
    return first


def ask(patience=20):
    end = time.time() + patience
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(SOCKET)
                return eval(client.recv(ANSWER))
        except (FileNotFoundError, ConnectionRefusedError):
            assert time.time() < end, "the daemon does not answer"
            time.sleep(0.02)


def run(*arguments, refused=None):
    done = subprocess.run([ORCHESTRATOR, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (done.returncode != 0) == bool(refused), (arguments, done.stderr)
    assert not refused or refused in done.stderr, (arguments, done.stderr)


def end(pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        # Of those that we get as orphans some are not ours yet.
        while os.path.exists("/proc/%d" % pid):
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                time.sleep(0.01)


assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
session = daemon()
pids = []
try:
    count, terminal, pid, places, children = ask()
    pids = [pid] + children
    assert pid != session and not os.path.exists("/proc/%d" % session), "the leader has gone"
    assert places == [[session, session], [session, session], [children[1], session], [session, session]], places
    assert not terminal
    nowhere = FOLDER + "/refused"
    os.mkdir(nowhere)
    # A worker alone: others are of its session. The peer never ends the restore of such a session.
    run("dump", str(children[0]), "-D", nowhere, refused="which is outside of what is dumped, is of it too")
    run("dump", str(pid), "-D", nowhere, "--portable", refused="its leader has gone")
    for cycle in range(CYCLES):
        images = "%s/%d" % (FOLDER, cycle)
        os.mkdir(images)
        run("dump", str(pid), "-D", images, "--leave-running")
        assert ask() == [count + 1, terminal, pid, places, children], "it runs on"
        end(pids)
        os.unlink(SOCKET)
        # With the option of jobs too, it has its own session and not the caller's.
        run("restore", "-D", images, "-d", "--restore-sibling", refused="restore without --restore-sibling")
        run("restore", "-D", images, "-d", *["--shell-job"] * (cycle % 2))
        count += 1
        answer = ask()
        assert answer == [count, terminal, pid, places, children], answer
    print("PASS")
finally:
    end([one for one in pids if os.path.exists("/proc/%d" % one)])
