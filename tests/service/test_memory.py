"""Memory of the process: threads share one arena, and the collector leaves alone what is as old as the process."""

import os
import subprocess
import sys
from pathlib import Path

from tests.bundle_factory import publish

ARENAS = """
import ctypes, threading
from service.app import create_app
from service.settings import Settings

create_app(Settings())
libc = ctypes.CDLL(None)
libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
libc.fopen.argtypes, libc.fopen.restype = [ctypes.c_char_p, ctypes.c_char_p], ctypes.c_void_p
libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
all_have = threading.Barrier(4)

def allocate():
    libc.malloc(100_000)
    all_have.wait()

threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
file = libc.fopen(b"/dev/stdout", b"w")
libc.malloc_info(0, file)
libc.fclose(file)
"""


FROZEN = """
import gc, socket, sys, uvicorn
from service.server import serve
from service.settings import Settings

def run(server, sockets):
    print(len(gc.get_objects()) / gc.get_freeze_count())

uvicorn.Server.run = run
serve(Settings(port=0))
"""

# As torch does, a runtime makes many objects when it is imported, during the first look at the folder.
SETTLED = """
import gc, os, signal, sys, threading, time
from pathlib import Path
from service.app import create_app
from service.listening import listen_or_exit
from service.server import DrainingServer, server_config
from service.settings import Settings
from tests.service.programs import FakeRuntime, Program

made = []

def open_runtime(bundle):
    made.extend([] for _ in range(100_000))
    return FakeRuntime(Program())

def watch():
    late = time.monotonic() + 10
    while not (made and len(gc.get_objects()) < len(made)) and time.monotonic() < late:
        time.sleep(0.01)
    print(len(gc.get_objects()), *gc.get_threshold())
    os.kill(os.getpid(), signal.SIGTERM)

settings = Settings(models_dir=Path(sys.argv[1]), port=0, drain_delay=0)
app = create_app(settings, open_runtime=open_runtime)
threading.Thread(target=watch, daemon=True).start()
DrainingServer(server_config(app, settings), app, settings).run(listen_or_exit(settings))
"""


def arenas(**environment: str) -> int:
    """How many a process of the service has four of whose threads have allocated."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", ARENAS],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.count("<heap ")


def test_the_services_threads_share_one_arena_unless_the_environment_chooses_otherwise() -> None:
    assert arenas() == 1
    assert arenas(MALLOC_ARENA_MAX="3") == 3


def test_what_was_made_before_serving_is_not_looked_at_by_the_collector() -> None:
    done = subprocess.run([sys.executable, "-c", FROZEN], capture_output=True, text=True, check=True, timeout=60)
    assert float(done.stdout) < 0.1


def test_what_the_first_look_made_is_not_looked_at_either_and_the_collector_comes_seldom(root: Path) -> None:
    publish(root)
    command = [sys.executable, "-c", SETTLED, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    looked_at, *thresholds = map(int, done.stdout.splitlines()[-1].split())
    assert looked_at < 20_000
    assert thresholds == [20_000, 10, 10]
