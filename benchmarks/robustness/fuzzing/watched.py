"""A process of its own for each case, forked from one that has imported everything, watched from within and without.

From within: exceptions, the files that are opened, listed, moved and deleted (by Python's audit events), processes and
connections, what is printed. From without: time, signals, and the files beside the run.
"""

from __future__ import annotations

import faulthandler
import hashlib
import inspect
import json
import os
import re
import resource
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from benchmarks.robustness.fuzzing.hostile import STRANGER
from benchmarks.robustness.fuzzing.targets import DATA, RUN

GIB = 2**30
# Above a good run's memory; address space is wider than memory, and its limit only keeps the machine alive.
MEMORY, ADDRESSES = GIB, 4 * GIB
LARGEST_FILE = GIB // 4
SECONDS = 10.0
# A process that waits takes a smaller share of the time than this, one that works on a busy machine a larger one.
IDLE = 0.02
# Folders of a case that commands may write to, and those that they may only read; the latter as the user named them.
WRITABLE = (RUN, "new", "out", "tmp")
READABLE = (*WRITABLE, DATA)
DEVICES = ("/dev/null", "/dev/urandom", "/dev/random", "/dev/shm", "/dev/tty", "/dev/pts", "/dev/fd")
SECRETS = ("/etc/passwd", "/etc/shadow")
READS = ("os.listdir", "os.scandir")
WRITES = {
    *("os.remove", "os.rmdir", "os.mkdir", "os.rename", "os.link", "os.symlink", "os.truncate", "os.chmod"),
    *("os.utime", "os.chown", "os.setxattr", "shutil.rmtree"),
}
STARTS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "pty.spawn")
CONNECTIONS = ("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto")
# What a terminal would obey: all control characters but the ends of lines and tabs.
CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Outcome:
    """What came of a command: "answered", "refused", or "fault" with what it was and where in coterie."""

    command: str
    kind: str
    fault: str = ""
    where: str = ""
    detail: str = ""
    memory: int = 0


@dataclass(frozen=True)
class Guard:
    """What a case may do.

    Attributes:
        place: the folder of the case, in which the commands run.
        shared: a folder for caches, which may be written to.
        memory: resident bytes at most.
    """

    place: Path
    shared: Path
    memory: int
    seconds: float = SECONDS


def watch(guard: Guard, commands: Sequence[tuple[str, bool]], judge: Callable[[str], str]) -> list[Outcome]:
    """Run commands in a forked process, each with whether it may read files elsewhere."""
    before = _snapshot(guard.place)
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _work(guard, commands, judge, os.fdopen(writer, "wb", buffering=0))
    os.close(writer)
    outcomes, begun, slow = [], "start", False
    for message in _messages(child, reader, guard.seconds):
        if message is None:
            slow = True
            break
        if "begin" in message:
            begun = message["begin"]
        else:
            outcomes.append(Outcome(**message))
            begun = "end"
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # and what it started
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(reader)
    where = _place_in((guard.place / "stack").read_text(errors="replace")) if (guard.place / "stack").exists() else ""
    if slow:
        outcomes.append(Outcome(begun, "fault", f"hangs over {guard.seconds:g} s", where))
    elif begun != "done":
        how = signal.Signals(status).name if os.WIFSIGNALED(status) else f"code {os.waitstatus_to_exitcode(status)}"
        outcomes.append(Outcome(begun, "fault", f"the process ended by {how}", where))
    after = _snapshot(guard.place)
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    if changed:
        outcomes.append(Outcome(begun, "fault", "written or deleted outside", "", ", ".join(changed)[:200]))
    return outcomes


def apart(call: Callable[[], str]) -> str:
    """What a function returns in a forked process: threads that a library starts there are not forked again."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, call().encode("utf-8", "replace"))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        text = said.read().decode()
    os.waitpid(child, 0)
    if not text:
        raise RuntimeError("a forked process said nothing")
    return text


def _messages(child: int, reader: int, seconds: float) -> Iterator[dict[str, Any] | None]:
    """What the child says, line by line; None where it says nothing for too long.

    On a busy machine a command that does something may take longer than its seconds: what counts is its processor time,
    and whether it takes any.
    """
    text, begun, before = b"", 0.0, 0.0
    while True:
        ready, _, _ = select.select([reader], [], [], seconds)
        now = _processor_seconds(child)
        if not ready:
            if now - begun >= seconds or (now - before < IDLE * seconds and not _is_ready(child)):
                yield None
                return
            before = now
            continue
        said = os.read(reader, 65536)
        if not said:
            return
        *lines, text = (text + said).split(b"\n")
        yield from (json.loads(line) for line in lines)
        begun = before = now


def _is_ready(process: int) -> bool:
    """Whether a thread of a process could go on, but for the processor or the disk: it waits for nothing else."""
    try:
        threads = list(Path(f"/proc/{process}/task").iterdir())
        return any((thread / "stat").read_text().rpartition(")")[2].split()[0] in "RD" for thread in threads)
    except OSError:  # it has ended
        return False


def _processor_seconds(process: int) -> float:
    """That a process has taken so far."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _snapshot(place: Path) -> dict[str, str]:
    """All that lies in a case beside the folders that may be written to: contents, links, times."""
    found = {}
    for folder, names, files in os.walk(place):
        at = Path(folder)
        if at == place:
            names[:] = [name for name in names if name not in WRITABLE]
            files = [name for name in files if name not in ("said", "stack")]
        for name in (*names, *files):
            file = at / name
            state = file.lstat()
            regular = file.is_file() and not file.is_symlink()
            content = hashlib.sha256(file.read_bytes()).hexdigest() if regular and state.st_size < 10**7 else ""
            times = "" if file.is_dir() else state.st_mtime_ns
            found[file.relative_to(place).as_posix()] = f"{state.st_mode} {times} {content}"
    return found


def _place_in(stack: str) -> str:
    """The innermost function of coterie in a stack as faulthandler writes it."""
    found = re.search(r'File ".*/src/(coterie/[^"]+)", line (\d+) in (\S+)', stack)
    return f"{found[1]}:{found[2]} {found[3]}" if found else ""


# In the child.


def _work(guard: Guard, commands: Sequence[tuple[str, bool]], judge: Callable[[str], str], pipe: BinaryIO) -> None:
    """Never returns: the child must not go on with what its parent does."""
    try:
        os.setsid()
        stack = (guard.place / "stack").open("w")
        said = _redirected(guard.place / "said")
        _limit()
        os.chdir(guard.place)
        faulthandler.enable(stack)
        watcher = Watcher(guard)
        sys.addaudithook(watcher)
        sys.meta_path.insert(0, cast("Any", watcher))
        for name, may_read in commands:
            pipe.write(json.dumps({"begin": name}).encode() + b"\n")
            faulthandler.dump_traceback_later(0.9 * guard.seconds, file=stack)
            for outcome in watcher.outcomes(name, may_read, judge, said):
                pipe.write(json.dumps(vars(outcome)).encode() + b"\n")
            faulthandler.cancel_dump_traceback_later()
        pipe.write(json.dumps({"begin": "done"}).encode() + b"\n")
    finally:
        os._exit(0)


def _redirected(file: Path) -> int:
    said = os.open(file, os.O_CREAT | os.O_RDWR | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.stdout, sys.stderr = (open(to, "w", buffering=1, encoding="utf-8", closefd=False) for to in (1, 2))  # noqa: SIM115
    return said


def _limit() -> None:
    words = Path("/proc/self/statm").read_text().split()
    addresses = int(words[0]) * resource.getpagesize() + ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (addresses, addresses))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.dont_write_bytecode = True


class Watcher:
    """An audit hook, and a finder of modules, that notes what no command may do; it also judges what a command printed
    and raised.
    """

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.root, self.shared = _real(guard.place), _real(guard.shared)
        self.listens = False
        self.may_read = False
        self.seen: dict[tuple[str, str], str] = {}

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.listens:
            return
        self.listens = False  # what follows opens nothing, but asks where links lead
        try:
            fault = self._fault(event, arguments)
            if fault:
                self.seen.setdefault((fault, _frame_in_coterie()), f"{event} {arguments!r}"[:200])
        except (OSError, ValueError):  # no path at all, which the call itself will say
            return
        finally:
            self.listens = True

    def find_spec(self, name: str, *_: object) -> None:
        """Asked by every import; not all of them are audit events."""
        if self.listens and name.startswith(STRANGER):
            self.seen.setdefault(("runs a stranger's code", _frame_in_coterie()), name)

    def outcomes(self, name: str, may_read: bool, judge: Callable[[str], str], said: int) -> Iterator[Outcome]:
        """Run one command."""
        self.may_read, self.seen = may_read, {}
        start = os.lseek(said, 0, os.SEEK_END)
        self.listens = True
        try:
            kind, fault, where, detail = judge(name), "", "", ""
        except BaseException as error:  # a panic of a library written in Rust is no Exception
            self.listens = False
            kind, fault, where, detail = "fault", type(error).__name__, _raised_in(error), f"{error!s:.200}"
        self.listens = False
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        yield Outcome(name, kind, fault, where, detail, memory)
        for (fault, where), detail in self.seen.items():
            yield Outcome(name, "fault", fault, where, detail)
        with suppress(ValueError, OSError):
            sys.stdout.flush()
        text = os.pread(said, os.lseek(said, 0, os.SEEK_END) - start, start).decode("utf-8", "replace")
        if "Traceback (most recent call last)" in text and fault == "":
            yield Outcome(name, "fault", "prints a traceback", _last_in_coterie(text), text[-200:])
        if found := CONTROLS.search(text):
            near = text[max(0, found.start() - 60) : found.end() + 60]
            yield Outcome(name, "fault", "prints control characters", "", f"{near!r}")
        if memory > self.guard.memory:
            yield Outcome(name, "fault", "takes over 1 GiB more than a good run", where, f"{memory / GIB:.2f} GiB")

    def _fault(self, event: str, arguments: tuple[Any, ...]) -> str | None:
        first = arguments[0] if arguments else None
        if event == "open":
            # By `os.open` a relative path may start at an open folder, which was judged when it was opened.
            if isinstance(first, int) or (arguments[1] is None and not _path(first).is_absolute()):
                return None
            there, writes = _real(first), bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            # A folder is opened for writing where a file without a name tells whether it can be written to.
            return None if writes and there.is_dir() else self._outside(there, writes=writes)
        if event in READS:
            return None if isinstance(first, int) else self._outside(_real(first or "."), writes=False)
        if event in WRITES:
            changed = {"os.rename": arguments[:2], "os.link": arguments[:2], "os.symlink": arguments[1:2]}
            return next(filter(None, map(self._changed, changed.get(event, arguments[:1]))), None)
        if event in STARTS:
            return "starts a process"
        if event in CONNECTIONS and not self.may_read:
            return "uses the network"
        return None

    def _changed(self, entry: Any) -> str | None:
        """Of an entry of a folder: a link is itself changed, not what it leads to."""
        if isinstance(entry, int) or _path(entry).name == os.fsdecode(entry):  # of an open folder, as above
            return None
        return self._outside(_real(_path(entry).parent) / _path(entry).name, writes=True)

    def _outside(self, there: Path, *, writes: bool) -> str | None:
        if there.is_relative_to("/dev"):
            return None if self.may_read or any(map(there.is_relative_to, DEVICES)) else "opens a device"
        if there.is_relative_to(self.shared):
            return None
        allowed = any(there.is_relative_to(self.root / name) for name in (WRITABLE if writes else READABLE))
        if writes:
            return None if allowed else "written or deleted outside"
        kept = there.is_relative_to(self.root) or str(there) in SECRETS
        return "reads outside" if kept and not (allowed or self.may_read or there == self.root) else None


def _path(path: Any) -> Path:
    return Path(os.fsdecode(path))


def _real(path: Any) -> Path:
    return Path(os.path.realpath(os.fsdecode(path)))  # not Path.resolve, which refuses links in a circle


def _frame_in_coterie() -> str:
    frame = inspect.currentframe()
    while frame is not None:
        if "/src/coterie/" in frame.f_code.co_filename:
            return f"{_short(frame.f_code.co_filename)}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return ""


def _raised_in(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/src/coterie/" in f.filename]
    return f"{_short(frames[-1].filename)}:{frames[-1].lineno} {frames[-1].name}" if frames else ""


def _last_in_coterie(text: str) -> str:
    found = re.findall(r'File ".*/src/(coterie/[^"]+)", line (\d+), in (\S+)', text)
    return "{}:{} {}".format(*found[-1]) if found else ""


def _short(file: str) -> str:
    return file[file.rindex("/src/coterie/") + 5 :]
