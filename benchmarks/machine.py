"""The machine that it all ran on, without its name."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

GIB = 1 << 30


def describe_machine() -> dict[str, str]:
    """What matters of the machine: its processor, cores, memory, system and Python."""
    return {
        "processor": find_processor(),
        "cores": str(_count_cores()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.0f} GiB",
        "system": f"{find_system()}, {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def find_processor() -> str:
    """The name of the processor's model."""
    with_name = Path("/proc/cpuinfo")
    if with_name.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", with_name.read_text(), re.MULTILINE)
        return found[1].strip() if found else "unknown"
    if shutil.which("sysctl"):
        asked = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return asked.stdout.strip() or "unknown"
    return "unknown"


def find_system() -> str:
    """The name and version of the operating system."""
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def find_program_version(program: str | Path) -> str:
    """What ``program --version`` says, up to what the packager added; ``not found`` where it cannot be run."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "not found"
    return re.sub(r"^.*?(\d[\w.]*).*", r"\1", done.stdout.strip(), flags=re.DOTALL)


def _count_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
