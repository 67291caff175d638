"""The section that a benchmark writes into RESULTS.md."""

import os
import platform
import re
from collections.abc import Sequence
from datetime import date
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).parent / "RESULTS.md"
PACKAGES = ("kerasllm", "tensorflow", "keras", "keras-hub", "tokenizers", "torch", "transformers")


def machine() -> str:
    """One line on the machine and one on the packages."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", info)
    flags = re.search(r"flags\s*: (.*)", info)
    known = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flags and f in flags[1].split()]
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    gib = int(memory[1]) / 2**20 if memory else 0
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    return (
        f"{model[1] if model else platform.processor()}, {os.cpu_count()} cores, {gib:.0f} GiB, "
        f"{', '.join(known)}; Python {platform.python_version()}, {versions}; {date.today()}."
    )


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def write_section(name: str, text: str) -> None:
    """Puts the section `name` into RESULTS.md in place of an older one."""
    sections = {}
    if RESULTS.exists():
        parts = re.split(r"^## (.*)$", RESULTS.read_text(), flags=re.M)
        sections = {title.strip(): body.strip() for title, body in zip(parts[1::2], parts[2::2], strict=True)}
    sections[name] = f"{text}\n\nMachine: {machine()}"
    content = "# Results\n\nWritten by the scripts in this folder; see README.md.\n"
    for title in sorted(sections):
        content += f"\n## {title}\n\n{sections[title]}\n"
    RESULTS.write_text(content)
    print(f"\n## {name}\n\n{sections[name]}")
