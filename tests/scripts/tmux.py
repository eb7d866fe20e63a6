"""A tmux server with vim and top in its panes, dumped while no client is attached. Arguments: orchestrator, image folder.

It runs in a mount namespace with a devpts of its own: nobody takes the numbers of its terminals meanwhile."""
import ctypes, os, pty, select, subprocess, sys, time

ORCHESTRATOR, IMAGES = sys.argv[1:3]
PATIENCE = 60
PRIVATE = "mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts && mount --bind /dev/pts/ptmx /dev/ptmx && exec "

if not os.environ.get("OWN_DEVPTS"):
    os.environ.update(OWN_DEVPTS="1", TMUX_TMPDIR=IMAGES, TERM="xterm")
    os.environ.pop("TMUX", None)
    words = ["python3", os.path.abspath(__file__), ORCHESTRATOR, IMAGES]
    os.execvp("unshare", ["unshare", "-m", "sh", "-c", PRIVATE + '"$@"', "sh"] + words)


def tmux(*words):
    run = subprocess.run(["tmux", "-f", "/dev/null", "-L", "test", *words], stdin=subprocess.DEVNULL, capture_output=True, close_fds=True)
    assert run.returncode == 0, (words, run.stderr)
    return run.stdout.decode()


def shows(pane, words):
    end = time.time() + PATIENCE
    while words not in tmux("capture-pane", "-p", "-t", pane):
        assert time.time() < end, tmux("capture-pane", "-p", "-t", pane)
        time.sleep(0.1)


def gone(pid):
    """Orphans come to us and not to init, which may take its time to collect them."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
    return not os.path.exists("/proc/%d" % pid)


PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
subprocess.run(["setsid", "tmux", "-f", "/dev/null", "-L", "test", "new-session", "-d", "-x", "80", "-y", "24", "vim -u NONE -N"],
               stdin=subprocess.DEVNULL, check=True, cwd=IMAGES)
try:
    tmux("split-window", "-d", "top -d 1")
    tmux("send-keys", "-t", "0.0", "ihello")
    shows("0.0", "hello")
    shows("0.1", "Tasks:")
    server = tmux("display", "-p", "#{pid}").strip()
    for cycle in range(4):
        folder = os.path.join(IMAGES, str(cycle))
        os.mkdir(folder)
        more = ["-R"] if cycle == 0 else []
        subprocess.run([ORCHESTRATOR, "dump", server, "-D", folder, *more], check=True)
        if cycle > 0:
            pids = [int(name[5:-4]) for name in os.listdir(folder) if name.startswith("core-")]
            end = time.time() + PATIENCE
            while not all(gone(pid) for pid in pids) and time.time() < end:
                time.sleep(0.05)
            subprocess.run([ORCHESTRATOR, "restore", "-d", "-D", folder], check=True)
        tmux("send-keys", "-t", "0.0", " %d" % cycle)
        shows("0.0", "hello" + "".join(" %d" % number for number in range(cycle + 1)))
    client, terminal = pty.fork()
    if client == 0:
        os.execvp("tmux", ["tmux", "-f", "/dev/null", "-L", "test", "attach"])
    seen, end, typed = b"", time.time() + PATIENCE, False
    while b"hello 0 1 2 3 there" not in seen and time.time() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 65536)
        if b"hello" in seen and not typed:
            os.write(terminal, b" there")
            typed = True
            shows("0.0", "hello 0 1 2 3 there")
            break
    assert typed, seen
finally:
    tmux("kill-server")
print("PASS")
