"""What the benchmark runs on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

IN_MEMORY = ("tmpfs", "ramfs")


def machine(directory: Path) -> dict[str, object]:
    """The processor, the memory, the system, and the file system of the stores."""
    model = "unknown"
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(encoding="utf-8").splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "memory_gib": round(memory),
        "system": platform.system(),
        "kernel": platform.release(),
        "file_system": file_system(directory),
        "python": platform.python_version(),
    }


def file_system(directory: Path) -> str:
    """Its type, of the mount that the directory is on (proc(5)); "unknown" where nobody says."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return "unknown"
    here = directory.resolve()
    found, depth = "unknown", -1
    for line in mounts.read_text(encoding="utf-8").splitlines():
        _, place, kind, *_ = line.split()
        if here.is_relative_to(place) and len(Path(place).parts) >= depth:
            found, depth = kind, len(Path(place).parts)
    return found
