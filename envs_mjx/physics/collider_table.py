"""Installation of `box_contacts.c`, the box-box collider of the recordings, in releases of MuJoCo after 3.3.7.

MuJoCo looks up colliders in an exported table, `mjCOLLISIONFUNC`. Since release 3.4 its box-box entry places other
points, and steps in which boxes touch left the recordings. The C file is compiled at first use with the system's
compiler, against the headers of the installed release, and cached. Only models that contain `MARK` use it; other models
of the same process keep MuJoCo's own collider.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import mujoco

from jsafe import runtime

MARK = '<custom><numeric name="colliders_of_337" data="1"/></custom>'
"""MJCF element of a model whose boxes touch as in the recordings."""

FLAGS = ("-O2", "-shared", "-fPIC", "-ffp-contract=off")
"""Compiler flags; without contraction, results do not depend on the processor."""

_SOURCE = Path(__file__).with_name("box_contacts.c")


def is_native() -> bool:
    """Whether the installed MuJoCo has the box-box collider of the recordings itself."""
    return mujoco.mj_version() <= 337  # 3.8 and later count 3008000


@functools.cache
def install() -> bool:
    """Make marked models collide boxes as the recordings do, once for each process.

    Returns:
        Whether they do. Without a C compiler they use MuJoCo's own collider, and a warning says so.
    """
    if is_native():
        return True
    try:
        library = ctypes.CDLL(str(compile_source()))
        engine = ctypes.CDLL(str(_engine_library()))
        table = ctypes.addressof(ctypes.c_void_p.in_dll(engine, "mjCOLLISIONFUNC"))
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", None) or error
        warnings.warn(
            f"boxes touch as in MuJoCo {mujoco.__version__}, not as in the recordings of the reference: the collider "
            f"{_SOURCE.name} cannot be built or loaded ({detail}). Install a C compiler or mujoco==3.3.7 to get them.",
            stacklevel=2,
        )
        return False
    library.install(ctypes.c_void_p(table))
    return True


def compile_source(folder: Path | None = None) -> Path:
    """Compile `box_contacts.c` for the installed MuJoCo.

    Args:
        folder: where the library is kept; by default a subfolder of the user's cache.

    Returns:
        The shared library. One that exists already is used again.

    Raises:
        OSError: without a compiler.
        subprocess.CalledProcessError: when the compiler fails.
    """
    text = _SOURCE.read_bytes() + " ".join((mujoco.__version__, platform.machine(), *FLAGS)).encode()
    folder = folder or _writable(runtime.default_cache_dir() / "colliders")
    library = folder / f"box_contacts-{hashlib.sha256(text).hexdigest()[:16]}.so"
    if not library.exists():
        compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", ""), "cc", "gcc", "clang"))), None)
        if compiler is None:
            raise OSError("no C compiler found: cc, gcc, clang or $CC")
        include = Path(mujoco.__file__).parent / "include"
        unfinished = folder / f"{library.name}.{os.getpid()}"
        command = [compiler, *FLAGS, f"-I{include}", str(_SOURCE), "-o", str(unfinished), "-lm"]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        os.replace(unfinished, library)  # another process may do the same at the same time
    return library


def describe() -> str:
    """Engine of marked models, for the record of a run: its release and whose box collider it uses."""
    return f"MuJoCo {mujoco.__version__}, box contacts of {'3.3.7' if install() else mujoco.__version__}"


def _engine_library() -> Path:
    folder = Path(mujoco.__file__).parent
    found = sorted((*folder.glob("libmujoco*.so*"), *folder.glob("libmujoco*.dylib"), *folder.glob("mujoco.dll")))
    if not found:
        raise OSError(f"no MuJoCo library in {folder}")
    return found[0]


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="jsafe-colliders-"))
    return folder if os.access(folder, os.W_OK) else Path(tempfile.mkdtemp(prefix="jsafe-colliders-"))
