"""Holds listening sockets for serviceos as systemd does: they are handed over at each start, and stay open in between.

Arguments: the folder, the names of the sockets (`gateway:admin`), and what is to be run. The first line that is said is the ports.
Then `start` starts it (its pid is said), `start PID` as if they were for that process, and `wait` waits for its end (its exit code is said).
"""

import fcntl
import os
import signal
import socket
import sys

FIRST = 3
FREE = 100

folder, names, command = sys.argv[1], sys.argv[2], sys.argv[3:]
sockets = [socket.create_server(("127.0.0.1", 0), backlog=256) for _ in names.split(":")]
print(*(held.getsockname()[1] for held in sockets), flush=True)


def start(whose=None):
    pid = os.fork()
    if pid != 0:
        return pid
    os.setpgid(0, 0)
    os.chdir(folder)
    appended = os.O_CREAT | os.O_WRONLY | os.O_APPEND
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open("up.out", appended, 0o600), 1)
    os.dup2(os.open("up.err", appended, 0o600), 2)
    # Nobody has thought of this one.
    os.dup2(os.open("left-open", appended, 0o600), FREE - 1)
    # First out of the way, since one may have the number of another.
    away = [fcntl.fcntl(held.fileno(), fcntl.F_DUPFD_CLOEXEC, FREE) for held in sockets]
    for number, descriptor in enumerate(away):
        os.dup2(descriptor, FIRST + number)
    handed_over = {"LISTEN_FDS": str(len(sockets)), "LISTEN_PID": whose or str(os.getpid()), "LISTEN_FDNAMES": names}
    os.execve(command[0], command, dict(os.environ) | handed_over)


child = None
for line in sys.stdin:
    if line.startswith("start"):
        child = start(*line.split()[1:])
        print(child, flush=True)
    elif line.strip() == "wait":
        _, status = os.waitpid(child, 0)
        child = None
        print(os.waitstatus_to_exitcode(status), flush=True)
if child is not None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
