"""Importing the package must change no library: a limit that one lifts for itself is lifted for all in the process.

The one exception is on purpose, and set beforehand here: `bundle.onnx` refuses onnxruntime's telemetry."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STATE = """
import asyncio, gc, importlib, json, locale, logging, multiprocessing, os, random, signal, socket, sys, threading
import warnings

import fastapi, httptools, numpy, orjson, PIL.Image, PIL.ImageFile, PIL.PngImagePlugin, pydantic, starlette.formparsers
import starlette.requests, torch, uvicorn.config, uvloop, werkzeug.http, onnxruntime, typer, multiprocessing.connection
import model_signing.signing, model_signing.verifying

def state():
    parser = starlette.formparsers.MultiPartParser
    return {
        "multipart limits": [parser.max_part_size, parser.spool_max_size,
                             repr(starlette.requests.Request.form.__kwdefaults__)],
        "pixels": [PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES, PIL.PngImagePlugin.MAX_TEXT_CHUNK],
        "recursion": sys.getrecursionlimit(),
        "integer digits": sys.get_int_max_str_digits(),
        "garbage": [gc.isenabled(), *gc.get_threshold()],
        "timeout": socket.getdefaulttimeout(),
        "numpy": [numpy.geterr(), repr(numpy.get_printoptions()), repr(numpy.random.get_state())],
        "torch": [torch.is_grad_enabled(), torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32,
                  torch.backends.cudnn.allow_tf32, torch.get_default_dtype() is torch.float32, torch.initial_seed()],
        "logging": [logging.root.level, repr(logging.root.handlers), logging.root.manager.disable,
                    repr(logging.getLoggerClass()), json.dumps(uvicorn.config.LOGGING_CONFIG)],
        "warnings": [repr(warnings.filters), repr(warnings.showwarning)],
        "signals": [repr(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
        "hooks": [repr(sys.excepthook), repr(threading.excepthook), repr(sys.unraisablehook), sys.gettrace() is None],
        "event loop": repr(asyncio.get_event_loop_policy().__class__),
        "processes": multiprocessing.get_start_method(allow_none=True),
        "locale": locale.setlocale(locale.LC_ALL),
        "environment": sorted(os.environ.items()),
        "folder": os.getcwd(),
        "umask": [os.umask(0o22), os.umask(0o22)],
        "random": repr(random.getstate()),
        "threads": threading.active_count(),
    }

changes = []
for name in sys.argv[1:]:
    before = state()
    importlib.import_module(name)
    after = state()
    changes += [f"{name} changes the {what}" for what in before if before[what] != after[what]]
print("; ".join(changes))
"""


def _modules(*packages: str) -> list[str]:
    files = (path for package in packages for path in sorted((ROOT / package).rglob("*.py")))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files]


def _changes(tmp_path: Path, *modules: str) -> list[str]:
    """What importing these modules changes, in this order."""
    ended = subprocess.run(
        [sys.executable, "-c", STATE, *modules],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin", "ORT_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return [change for change in ended.stdout.strip().split("; ") if change]


def test_importing_the_service_changes_no_library_and_no_state_of_the_process(tmp_path: Path) -> None:
    modules = _modules("bundle", "service", "cli")
    assert "service.engine.runtimes.torchscript" in modules
    assert _changes(tmp_path, *modules) == []


CARELESS = {
    "pixels": "import PIL.Image; PIL.Image.MAX_IMAGE_PIXELS = None",
    "multipart limits": "import starlette.formparsers; starlette.formparsers.MultiPartParser.max_part_size = 2**60",
    "warnings": "import warnings; warnings.simplefilter('ignore')",
    "logging": "import logging; logging.basicConfig()",
    "numpy": "import numpy; numpy.seterr(all='ignore')",
    "torch": "import torch; torch.set_num_threads(7)",
    "signals": "import signal; signal.signal(signal.SIGTERM, print)",
    "environment": "import os; os.environ['OMP_NUM_THREADS'] = '1'",
    "threads": "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
}


def test_changes_would_be_seen(tmp_path: Path) -> None:
    for index, line in enumerate(CARELESS.values()):
        (tmp_path / f"careless_{index}.py").write_text(line)
    names = [f"careless_{index}" for index in range(len(CARELESS))]
    expected = [f"{name} changes the {what}" for name, what in zip(names, CARELESS, strict=True)]
    assert _changes(tmp_path, *names) == expected
