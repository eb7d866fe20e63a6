"""A login shell: dumped in one terminal with its job, restored in another, which it takes. Arguments: orchestrator, image folder."""
import ctypes, os, pty, select, signal, subprocess, sys, time

ORCHESTRATOR, IMAGES = sys.argv[1:3]
PATIENCE = 60


def session(command):
    pid, terminal = pty.fork()
    if pid == 0:
        os.closerange(3, 1000)
        # Whoever runs the tests in the background has them ignored, and a shell leaves its jobs what it was born with.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        os.environ.update(PS1="@ ", TERM="dumb", HISTFILE="/dev/null")
        os.execvp(command[0], command)
    return pid, terminal


seen = b""


def read(terminal, until):
    global seen
    end = time.time() + PATIENCE
    while until not in seen:
        assert time.time() < end, "no %r in %r" % (until, seen)
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 4096)
    text, seen = seen.split(until, 1)
    return text


def type_line(terminal, words):
    os.write(terminal, words + b"\n")


def gone(pid):
    """Orphans come to us and not to init, which may take its time to collect them."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
    return not os.path.exists("/proc/%d" % pid)


PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
shell, terminal = session(["bash", "--norc", "--noprofile", "--noediting", "-i"])
read(terminal, b"@ ")
type_line(terminal, b"cd /; X=forty; sleep 1000 & sleep 2000")
time.sleep(1)
os.write(terminal, b"\x1a")
read(terminal, b"Stopped")
read(terminal, b"@ ")
dump = subprocess.run([ORCHESTRATOR, "dump", str(shell), "-D", IMAGES, "--shell-job"], stdin=subprocess.DEVNULL)
assert dump.returncode == 0
os.waitpid(shell, 0)
os.close(terminal)
for entry in os.listdir(IMAGES):
    if entry.startswith("core-"):
        end = time.time() + PATIENCE
        while not gone(int(entry[5:-4])) and time.time() < end:
            time.sleep(0.05)

restore, terminal = session([ORCHESTRATOR, "restore", "-v4", "-D", IMAGES, "--shell-job"])
read(terminal, b"resumed")
type_line(terminal, b"echo $X-$(ps -o tty= -p $$ | grep -c pts); jobs")
read(terminal, b"forty-1")
text = read(terminal, b"@ ")
assert b"Running" in text and b"Stopped" in text, text
type_line(terminal, b"fg %2")
read(terminal, b"sleep 2000\r\n")
time.sleep(0.5)
os.write(terminal, b"\x03")
read(terminal, b"@ ")
type_line(terminal, b"kill %1; exit 7")
status = os.waitstatus_to_exitcode(os.waitpid(restore, 0)[1])
assert status == 7, status
print("PASS")
