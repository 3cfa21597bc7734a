"""What every benchmark writes beside its script: the result, with machine, date and command."""

import platform
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path


def processor() -> str:
    """The processor's name, with its number of cores."""
    import os

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def write(script: str, text: str, name: str | None = None) -> None:
    """Write ``text`` to the script's ``.md`` file, or to that of another name, under a heading that says where it comes
    from.
    """
    file = Path(script).with_name(f"{name or Path(script).stem}.md")
    command = "python " + " ".join([f"benchmarks/{Path(script).name}", *sys.argv[1:]])
    heading = (
        f"`{command}`, {date.today().isoformat()}, {processor()}, Python {platform.python_version()}, "
        f"torch {version('torch')}\n\n"
    )
    file.write_text(f"# {file.stem}\n\n{heading}{text}\n", encoding="utf-8")
    print(text)
    print(f"written to {file}")
