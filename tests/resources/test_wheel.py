"""Rows D27 and X5: archives whose members want to be somewhere else, or something else."""

import stat
import zipfile

import pytest

from kerasllm.errors import ResourceError
from kerasllm.resources import wheel as wheel_module
from kerasllm.resources.wheel import copy_from_wheel


def archive(path, members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def member(name, mode=0, create_system=3):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.create_system = create_system
    return info


@pytest.mark.parametrize(
    ("info", "match"),
    [
        (
            member("data/../../escaped.txt"),
            r"its member 'data/../../escaped.txt' is a path that leads outside",
        ),
        (member("data/a/../b.txt"), "a path that leads outside"),
        (member("data/..\\..\\escaped.txt"), "a path that leads outside"),
        (member("data/link", stat.S_IFLNK | 0o777), "its member 'data/link' is not a regular file"),
        (member("data/pipe", stat.S_IFIFO | 0o666), "is not a regular file"),
        (member("data/device", stat.S_IFCHR | 0o666), "is not a regular file"),
        (member("data/directory", stat.S_IFDIR | 0o777), "is not a regular file"),
    ],
)
def test_a_member_that_is_no_plain_file_inside_is_refused(tmp_path, info, match):
    path = archive(tmp_path / "a.whl", [("data/ok.txt", "ok"), (info, "/etc/passwd")])
    (tmp_path / "out").mkdir()
    with pytest.raises(ResourceError, match=match + ".*Only plain files are unpacked."):
        copy_from_wheel(path, "data", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "escaped.txt").exists()


@pytest.mark.parametrize("name", ["/data/escaped.txt", "../data/escaped.txt"])
def test_a_member_outside_of_the_wanted_path_is_never_touched(tmp_path, name):
    path = archive(tmp_path / "a.whl", [("data/ok.txt", "ok"), (name, "bad")])
    (tmp_path / "out").mkdir()
    copy_from_wheel(path, "data", tmp_path / "out")
    assert [entry.name for entry in (tmp_path / "out").rglob("*")] == ["data", "ok.txt"]
    with pytest.raises(ResourceError, match=r"a path that leads outside"):
        copy_from_wheel(path, name, tmp_path / "out")


def test_an_encrypted_member_is_refused(tmp_path):
    path = archive(tmp_path / "a.whl", [("data/secret.txt", "x")])
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ResourceError, match=r"its member 'data/secret.txt' is encrypted"):
        copy_from_wheel(path, "data", tmp_path)


def test_the_same_name_twice_is_refused(tmp_path):
    members = [("data/a.txt", "1"), ("a-1.data/purelib/data/a.txt", "2")]
    path = archive(tmp_path / "a.whl", members)
    with pytest.raises(ResourceError, match=r"`a.whl` holds `data/a.txt` twice"):
        copy_from_wheel(path, "data", tmp_path)


def test_too_many_members_are_refused_and_the_limit_is_not(tmp_path):
    (tmp_path / "out").mkdir()
    members = [(f"data/{number}", "") for number in range(wheel_module.MAX_MEMBERS + 1)]
    path = archive(tmp_path / "a.whl", members)
    message = (
        r"`a.whl` holds 10,001 files under `data`; at most 10,000 files and 20 GiB are unpacked. Ask for a"
    )
    with pytest.raises(ResourceError, match=message):
        copy_from_wheel(path, "data", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    copy_from_wheel(path, "data/7", tmp_path / "out")
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["7"]


def test_a_bomb_is_refused_before_a_byte_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(wheel_module, "MAX_BYTES", 2**20)
    path = tmp_path / "bomb.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("data/zeros", bytes(2**20 + 1))
    assert path.stat().st_size < 2000
    (tmp_path / "out").mkdir()
    with pytest.raises(ResourceError, match=r"Ask for a smaller folder in it."):
        copy_from_wheel(path, "data", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_member_that_lies_about_its_size_is_damage(tmp_path):
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("data/zeros", bytes(10_000))
    content = bytearray(path.read_bytes())
    header = content.index(b"PK\x01\x02") + 24
    content[header : header + 4] = (10).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ResourceError, match=r"`a.whl` is damaged or is not a wheel"):
        copy_from_wheel(path, "data", tmp_path)


def test_a_mode_of_zero_and_other_systems_are_plain_files(tmp_path):
    path = archive(tmp_path / "a.whl", [(member("data/a", 0, create_system=0), "a")])
    copy_from_wheel(path, "data/a", tmp_path)
    assert (tmp_path / "a").read_text() == "a"
