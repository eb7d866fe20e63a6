"""A job of a shell: dumped in one terminal, restored in the foreground of another. Arguments: orchestrator, image folder."""
import os, pty, select, signal, subprocess, sys, termios, time

ORCHESTRATOR, IMAGES = sys.argv[1:3]


def session(run):
    pid, terminal = pty.fork()
    if pid == 0:
        os.closerange(3, 1000)
        try:
            os._exit(run())
        finally:
            os._exit(99)
    return pid, terminal


def job():
    settings = termios.tcgetattr(0)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(0, termios.TCSANOW, settings)
    # It must not read before it is in the foreground: that would stop it.
    child = subprocess.Popen(["sh", "-c", "sleep 0.3; exec cat"], process_group=0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, child.pid)
    time.sleep(0.8)
    dump = subprocess.run([ORCHESTRATOR, "dump", str(child.pid), "-D", IMAGES, "--shell-job"])
    child.wait()
    return dump.returncode


def again():
    return subprocess.run([ORCHESTRATOR, "restore", "-D", IMAGES, "--shell-job"]).returncode


def read(terminal, until, patience=20):
    text, end = b"", time.time() + patience
    while until not in text and time.time() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                text += os.read(terminal, 4096)
            except OSError:
                break
    return text


def status(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


first, terminal = session(job)
text = read(terminal, b"successfully")
assert status(first) == 0, text
second, terminal = session(again)
text = read(terminal, b"resumed")
os.write(terminal, b"hello\n")
text += read(terminal, b"hello\r\n")
assert text.count(b"hello") == 1, text
assert not termios.tcgetattr(terminal)[3] & termios.ECHO, "the terminal echoes"
os.write(terminal, b"\x04")
assert status(second) == 0, "the status of the job"
print("PASS")
