"""Installation of `recorded_colliders`, the colliders of the recordings, in releases of MuJoCo after 3.3.7.

MuJoCo looks up colliders in an exported table, `mjCOLLISIONFUNC`. Later releases place other points between two boxes
(since 3.4) and between cylinders and other shapes, and steps in which these touch leave the recordings. The C files are
compiled at first use with the system's compiler, or that of the Python package `ziglang`, against the headers of the
installed release, and cached. Only models that contain `MARK` use them; other models of the same process keep MuJoCo's
own colliders.

Two more changes of later releases are undone for marked models: the bias term of welds (3.7), in `install.c`, and the
earlier end of the solver (`set_tolerance`).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
from importlib import metadata
from pathlib import Path

import mujoco

from jsafe import runtime

MARK = '<custom><numeric name="colliders_of_337" data="1"/></custom>'
"""MJCF element of a model whose boxes and cylinders touch as in the recordings."""

TOLERANCE = 1e-12
"""Tolerance of the solver in later releases. At the default of 1e-8 they stop earlier than 3.3.7: a velocity after one
control step was off by up to 0.08. At 1e-12 it is off by 2e-4, as in 3.3.7."""

FLAGS = ("-O2", "-shared", "-fPIC", "-ffp-contract=off")
"""Compiler flags; without contraction, results do not depend on the processor."""

_SOURCES = Path(__file__).with_name("recorded_colliders")


def is_native() -> bool:
    """Test for a release of MuJoCo with the colliders of the recordings."""
    return mujoco.mj_version() <= 337  # 3.8 and later count 3008000


@functools.cache
def install() -> bool:
    """Make marked models collide as the recordings do, once for each process.

    Returns:
        Whether they do. Without a C compiler they use MuJoCo's own colliders, after a warning.
    """
    if is_native():
        return True
    try:
        library = ctypes.CDLL(str(compile_source()))
        engine = ctypes.CDLL(str(_engine_library()))
        symbols = [ctypes.c_void_p.in_dll(engine, name) for name in ("mjCOLLISIONFUNC", "mjcb_control")]
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", None) or error
        warnings.warn(
            f"boxes and cylinders touch as in MuJoCo {mujoco.__version__}, not as in the recordings of the reference: "
            f"{_SOURCES.name} cannot be built or loaded ({detail}). "
            "Install a C compiler, the package ziglang or mujoco==3.3.7.",
            stacklevel=2,
        )
        return False
    library.install(*(ctypes.c_void_p(ctypes.addressof(symbol)) for symbol in symbols))
    return True


def set_tolerance(model: mujoco.MjModel) -> None:
    """Let the solver of a model, in MuJoCo C, converge as it did in the recordings."""
    if not is_native():
        model.opt.tolerance = TOLERANCE


def compile_source(folder: Path | None = None) -> Path:
    """Compile `recorded_colliders` for the installed MuJoCo.

    Args:
        folder: folder of the library; by default a subfolder of the user's cache.

    Returns:
        The shared library. One that exists already is used again.

    Raises:
        OSError: without a compiler.
        subprocess.CalledProcessError: when the compiler fails.
    """
    sources = sorted(_SOURCES.glob("*.c"))
    text = b"".join(file.read_bytes() for file in (*sources, *sorted(_SOURCES.glob("*.h"))))
    text += " ".join((mujoco.__version__, platform.machine(), *FLAGS)).encode()
    folder = folder or _writable(runtime.default_cache_dir() / "colliders")
    library = folder / f"recorded-{hashlib.sha256(text).hexdigest()[:16]}.so"
    if not library.exists():
        compiler = _compiler()
        include = Path(mujoco.__file__).parent / "include"
        unfinished = folder / f"{library.name}.{os.getpid()}"
        command = [*compiler, *FLAGS, f"-I{include}", *map(str, sources), "-o", str(unfinished), "-lm"]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        os.replace(unfinished, library)  # another process may do the same at the same time
    return library


def describe(backend: str = "mujoco") -> str:
    """Engine behind a physics backend, for the record of a run: its release and that of its colliders."""
    if backend == "mujoco":
        return f"MuJoCo {mujoco.__version__}, colliders of {'3.3.7' if install() else mujoco.__version__}"
    release = metadata.version("mujoco-mjx")
    return f"MJX {release}, colliders of 3.3.7" if backend == "mjx" else f"MuJoCo Warp in MJX {release}"


def _compiler() -> list[str]:
    """Command of a C compiler: the system's, or the one in the Python package `ziglang`."""
    installed = next(filter(None, map(shutil.which, (os.environ.get("CC", ""), "cc", "gcc", "clang"))), None)
    if installed is not None:
        return [installed]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    raise OSError("no C compiler found: cc, gcc, clang, $CC or the Python package ziglang")


def _engine_library() -> Path:
    folder = Path(mujoco.__file__).parent
    libraries = sorted((*folder.glob("libmujoco*.so*"), *folder.glob("libmujoco*.dylib"), *folder.glob("mujoco.dll")))
    if not libraries:
        raise OSError(f"no MuJoCo library in {folder}")
    return libraries[0]


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="jsafe-colliders-"))
    return folder if os.access(folder, os.W_OK) else Path(tempfile.mkdtemp(prefix="jsafe-colliders-"))
