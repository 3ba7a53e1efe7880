"""Downloads from a publisher that misbehaves in every way real ones do; a local server plays it."""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import re
import socket
import tarfile
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from command_line import copied, kedro, kedro_here
from transcriptome_diffusion.cohorts import download as module
from transcriptome_diffusion.cohorts import progress
from transcriptome_diffusion.cohorts.download import CHUNK, DownloadError, download
from transcriptome_diffusion.cohorts.options import DownloadOptions

CONTENT = np.random.default_rng(0).bytes(5 * CHUNK + 12_345)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "gene_tpm.gct.gz"


@dataclass
class Publisher:
    """What the server does; `cuts` and `statuses` are used up, one per answer, then it behaves."""

    files: dict[str, bytes]
    address: str = ""
    cuts: list[int] = field(default_factory=list)  # bytes after which the connection is dropped
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    announces: int | None = None  # a length of its own choice
    silent: bool = False  # announces no length
    headers: dict[str, str] = field(default_factory=dict)
    version: str | None = '"v1"'
    redirects: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append((handler.path, wanted))
        assert "Authorization" not in handler.headers
        if (status := self.statuses.pop(0) if self.statuses else 200) >= 400:
            return handler.send_error(status)
        if handler.path in self.redirects:
            handler.send_response(302)
            handler.send_header("Location", self.redirects[handler.path])
            handler.send_header("Content-Length", "0")
            return handler.end_headers()
        if handler.path not in self.files:
            return handler.send_error(404)
        body = self.files[handler.path]
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        whole = not (wanted and self.ranges and handler.headers.get("If-Range") == self.version)
        sent = body if whole else body[start:]
        handler.send_response(200 if whole else 206)
        if self.version:
            handler.send_header("ETag", self.version)
        if not whole:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if not self.silent:
            announced = len(sent) if self.announces is None else self.announces - (0 if whole else start)
            handler.send_header("Content-Length", str(announced))
        for name, value in self.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(sent[: self.cuts.pop(0)] if self.cuts else sent)
        return None


@pytest.fixture
def publisher():
    """A server with one file; the first question of every download is answered before `cuts` begin."""
    behaviour = Publisher({f"/{NAME}": CONTENT})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            with suppress(BrokenPipeError, ConnectionResetError):  # the client has seen enough
                behaviour.answer(self)
            self.close_connection = True

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    behaviour.address = f"http://127.0.0.1:{server.server_port}/"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield behaviour
    server.shutdown()
    server.server_close()


def options(publisher: Publisher, folder: Path, *files: dict, **settings) -> DownloadOptions:
    listed = list(files) or [{"name": NAME}]
    return DownloadOptions(
        folder=str(folder), base=publisher.address, files=listed, **{"retries": 2, "pause": 0, "timeout": 5} | settings
    )


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(*arguments, **settings) -> str:
    with pytest.raises(DownloadError) as error:
        download(options(*arguments, **settings))
    return str(error.value)


def test_a_file_arrives_whole_and_a_second_run_fetches_nothing(publisher, tmp_path, caplog):
    folder = tmp_path / "data" / "01_raw"
    wanted = options(publisher, folder, {"name": NAME, "bytes": len(CONTENT), "sha256": SHA256})
    assert download(wanted) == [folder / NAME]
    assert (folder / NAME).read_bytes() == CONTENT
    assert left_in(folder) == [NAME]
    asked = len(publisher.asked)
    with caplog.at_level(logging.INFO):
        download(wanted)
    assert len(publisher.asked) == asked
    assert "is there and whole" in caplog.text


def test_a_file_of_unknown_size_is_compared_with_what_the_server_announces(publisher, tmp_path, caplog):
    (tmp_path / NAME).write_bytes(CONTENT)
    download(options(publisher, tmp_path))
    assert len(publisher.asked) == 1
    (tmp_path / NAME).write_bytes(CONTENT[:1000])
    download(options(publisher, tmp_path))
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert f"has 1000 bytes, expected {len(CONTENT) / 1e6:.2f} MB" in caplog.text


def test_a_file_with_the_right_size_and_the_wrong_bytes_is_fetched_again(publisher, tmp_path, caplog):
    (tmp_path / NAME).write_bytes(bytes(len(CONTENT)))
    download(options(publisher, tmp_path, {"name": NAME, "sha256": SHA256}))
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert "it is fetched again" in caplog.text


def test_a_dropped_connection_is_taken_up_where_it_broke(publisher, tmp_path):
    publisher.cuts = [len(CONTENT), 2 * CHUNK, CHUNK]
    download(options(publisher, tmp_path))
    assert (tmp_path / NAME).read_bytes() == CONTENT
    starts = [wanted for _, wanted in publisher.asked]
    assert starts[:2] == [None, None]
    assert starts[2] == f"bytes={2 * CHUNK}-"
    assert starts[3] == f"bytes={3 * CHUNK}-"


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(publisher, tmp_path):
    publisher.cuts = [len(CONTENT), 3 * CHUNK]
    said = refused(publisher, tmp_path, retries=0)
    assert "0.79 MB are kept, and the next run goes on from there" in said
    assert not (tmp_path / NAME).exists()
    publisher.asked.clear()
    download(options(publisher, tmp_path))
    assert publisher.asked[-1][1] == f"bytes={3 * CHUNK}-"
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert left_in(tmp_path) == [NAME]


def test_a_part_of_a_version_that_was_replaced_is_not_continued(publisher, tmp_path):
    publisher.cuts = [len(CONTENT), 3 * CHUNK]
    refused(publisher, tmp_path, retries=0)
    publisher.version, publisher.files[f"/{NAME}"] = '"v2"', CONTENT[::-1]
    download(options(publisher, tmp_path))
    assert (tmp_path / NAME).read_bytes() == CONTENT[::-1]
    assert left_in(tmp_path) == [NAME]


def test_a_version_that_changes_between_two_attempts_is_fetched_from_its_beginning(publisher, tmp_path, monkeypatch):
    publisher.cuts = [len(CONTENT), 3 * CHUNK]

    def meanwhile(_):
        publisher.version, publisher.files[f"/{NAME}"] = '"v2"', CONTENT[::-1]

    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=meanwhile))
    download(options(publisher, tmp_path))
    assert (tmp_path / NAME).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("trait", [{"ranges": False}, {"version": None}, {"version": 'W/"weak"'}])
def test_a_server_that_cannot_go_on_is_asked_for_everything_again(publisher, tmp_path, trait):
    vars(publisher).update(trait, cuts=[len(CONTENT), 3 * CHUNK])
    download(options(publisher, tmp_path))
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_part_that_is_already_whole_is_not_asked_for_again(publisher, tmp_path, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(module.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            download(options(publisher, tmp_path))
    publisher.asked.clear()
    download(options(publisher, tmp_path))
    assert [wanted for _, wanted in publisher.asked] == [None]  # the question what the server has
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_passing_trouble_of_the_server_is_waited_out(publisher, tmp_path, caplog):
    publisher.statuses = [503, 429, 200, 500]
    download(options(publisher, tmp_path))
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert "503" in caplog.text
    assert "500" in caplog.text


def test_a_redirect_is_followed(publisher, tmp_path):
    publisher.redirects = {"/old": f"/{NAME}"}
    download(options(publisher, tmp_path, {"name": NAME, "url": "old"}))
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_no_credentials_are_sent_even_where_the_user_keeps_some_for_the_host(publisher, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    publisher.redirects = {"/old": f"/{NAME}"}
    download(options(publisher, tmp_path / "raw", {"name": NAME, "url": "old"}))  # the publisher refuses them
    assert left_in(tmp_path / "raw") == [NAME]


def test_a_file_without_an_announced_length_arrives(publisher, tmp_path, caplog):
    publisher.silent = True  # HTTP/1.0: the end of the connection is the end of the file
    download(options(publisher, tmp_path))
    assert "nobody can tell whether it is whole" in caplog.text
    (tmp_path / NAME).unlink()
    download(options(publisher, tmp_path, {"name": NAME, "bytes": len(CONTENT)}))
    assert (tmp_path / NAME).read_bytes() == CONTENT
    publisher.version, publisher.cuts = None, [len(CONTENT), 1000, 1000, 1000]
    said = refused(publisher, tmp_path, {"name": "b", "url": NAME, "bytes": len(CONTENT)}, retries=1)
    assert f"ended after 1000 bytes, expected {len(CONTENT)}" in said


@pytest.mark.parametrize("kind", ["gone", "forbidden", "web page", "circle", "compressed", "empty", "broken for good"])
def test_what_the_server_answers_is_said_in_one_sentence(publisher, tmp_path, kind):
    trait, expected = {
        "gone": ({"files": {}}, "404 Not Found: the publisher has moved the file. Mend its url in parameters_download"),
        "forbidden": ({"statuses": [403]}, "answers 403 Forbidden, expected the file. These files need no credentials"),
        "web page": ({"headers": {"Content-Type": "text/html; charset=utf-8"}}, "answers with a web page"),
        "circle": ({"redirects": {f"/{NAME}": f"/{NAME}"}}, "redirects"),
        "compressed": ({"headers": {"Content-Encoding": "br"}}, "sends br, which nobody asked for"),
        "empty": ({"files": {f"/{NAME}": b""}}, "announces an empty file"),
        "broken for good": ({"statuses": [500] * 9}, "gave up after 3 attempts that brought nothing new"),
    }[kind]
    vars(publisher).update(trait)
    said = refused(publisher, tmp_path)
    assert expected in said
    assert publisher.address in said
    assert left_in(tmp_path) == []


def test_a_length_that_is_not_the_known_one_stops_before_anything_is_fetched(publisher, tmp_path):
    said = refused(publisher, tmp_path, {"name": "first", "url": NAME}, {"name": NAME, "bytes": 77})
    assert f"announces {len(CONTENT)} bytes, expected 77" in said
    assert left_in(tmp_path) == []


def test_a_length_that_never_comes_is_given_up_and_named(publisher, tmp_path):
    publisher.announces = len(CONTENT) + 1000
    said = refused(publisher, tmp_path)
    assert "gave up after 3 attempts that brought nothing new" in said
    assert NAME not in left_in(tmp_path)


def test_other_bytes_than_the_known_ones_are_removed_and_both_hashes_named(publisher, tmp_path):
    said = refused(publisher, tmp_path, {"name": NAME, "sha256": "0" * 64})
    assert SHA256 in said
    assert "0" * 64 in said
    assert left_in(tmp_path) == []


def test_nobody_at_the_address_is_said_without_a_half_file(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nobody = Publisher({}, f"http://127.0.0.1:{port}/")
    assert "refused" in refused(nobody, tmp_path, retries=1)
    assert left_in(tmp_path) == []


def test_too_small_a_disk_is_noticed_before_anything_is_fetched(publisher, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    said = refused(publisher, tmp_path)
    assert f"1 files need {len(CONTENT) / 1e6:.2f} MB more" in said
    assert "1000 bytes free" in said
    assert left_in(tmp_path) == []


class FullDisk:
    """A file on a disk that has room for two blocks."""

    def __init__(self, file):
        self.file, self.blocks = file, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, block):
        self.blocks += 1
        if self.blocks > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(block)


def test_a_disk_that_fills_up_keeps_what_came_and_the_next_run_goes_on(publisher, tmp_path, monkeypatch):
    real = Path.open
    with monkeypatch.context() as full:
        full.setattr(
            Path,
            "open",
            lambda self, mode="r", *a: FullDisk(real(self, mode)) if "b" in mode and mode != "rb" else real(self, mode),
        )
        said = refused(publisher, tmp_path)
    assert "is full. Make room and run again" in said
    assert not (tmp_path / NAME).exists()
    download(options(publisher, tmp_path))
    assert publisher.asked[-1][1] == f"bytes={2 * CHUNK}-"
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_folder_nobody_may_write_to_is_named(publisher, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    said = refused(publisher, tmp_path / "file" / "folder")
    assert f"cannot write to {tmp_path / 'file' / 'folder'}" in said
    monkeypatch.setattr(
        module.os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    assert "(Permission denied). Mend its permissions" in refused(publisher, tmp_path / "closed")


def archive(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, body in members.items():
            info = tarfile.TarInfo(f"gdac.org_ACC.Level_3/{name}")
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return packed.getvalue()


def test_the_one_file_of_an_archive_is_kept_and_not_fetched_twice(publisher, tmp_path):
    publisher.files["/ACC.tar.gz"] = archive(**{"MANIFEST.txt": b"m", "ACC.data.txt": b"genes"})
    wanted = {"name": "ACC.txt", "url": "ACC.tar.gz", "member": "*/ACC.*data.txt"}
    download(options(publisher, tmp_path, wanted))
    assert left_in(tmp_path) == ["ACC.txt"]
    assert (tmp_path / "ACC.txt").read_bytes() == b"genes"
    publisher.asked.clear()
    download(options(publisher, tmp_path, wanted))
    assert publisher.asked == []


def test_an_archive_that_is_none_or_holds_something_else_is_refused(publisher, tmp_path):
    wanted = {"name": "ACC.txt", "url": NAME, "member": "*data.txt"}
    assert "is no tar archive" in refused(publisher, tmp_path, wanted)
    assert left_in(tmp_path) == []
    publisher.files["/ACC.tar.gz"] = archive(**{"1.data.txt": b"", "2.data.txt": b""})
    said = refused(publisher, tmp_path, wanted | {"url": "ACC.tar.gz"})
    assert "2 files of the archive match '*data.txt', expected one" in said
    assert "ACC.txt" not in left_in(tmp_path)


def test_impossible_lists_of_files_are_refused_before_the_run():
    for bad, match in (
        ({"files": [{"name": "a"}]}, "'a' is no http"),
        ({"base": "http://x/", "files": [{"name": "a"}, {"name": "a"}]}, "same name"),
        ({"base": "http://x/", "files": [{"name": "../a"}]}, "pattern"),
        ({"base": "http://x/", "files": [{"name": "a", "sha256": "abc"}]}, "pattern"),
    ):
        with pytest.raises(ValidationError, match=match):
            DownloadOptions(**bad)


def test_a_file_for_each_of_a_list_has_its_own_name_and_address():
    pattern = {"name": "{}.txt", "url": "{}/gdac_{}.tar.gz", "member": "*.txt", "each": ["ACC", "UVM"]}
    wanted = DownloadOptions(base="https://gdac/data/", files=[pattern])
    assert [(file.name, wanted.address(file), file.member) for file in wanted.files] == [
        ("ACC.txt", "https://gdac/data/ACC/gdac_ACC.tar.gz", "*.txt"),
        ("UVM.txt", "https://gdac/data/UVM/gdac_UVM.tar.gz", "*.txt"),
    ]
    with pytest.raises(ValidationError, match="several sizes and hashes"):
        DownloadOptions(base="https://gdac/", files=[{"name": "{}.txt", "each": ["a", "b"], "bytes": 3}])


def test_plus_signs_of_a_name_reach_the_server_as_they_are():
    file = {"name": "EB++Adjust.xena.gz"}
    wanted = DownloadOptions(base="https://hub/download/", files=[file])
    assert wanted.address(wanted.files[0]) == "https://hub/download/EB%2B%2BAdjust.xena.gz"


@pytest.fixture
def checkout(project, tmp_path):
    """A copy of the project with an environment whose files a test decides on."""
    copy = copied(project, tmp_path / "project")
    (copy / "conf" / "mine").mkdir()
    return copy


def kedro_download(checkout: Path, command=kedro_here, **block):
    settings = {"download": {"folder": "data/01_raw/mine", "retries": 1, "pause": 0, **block}}
    (checkout / "conf" / "mine" / "parameters_download.yml").write_text(yaml.safe_dump(settings))
    return command(checkout, "run", "--pipelines", "download", "--env", "mine")


def test_the_command_line_fetches_says_what_is_wrong_and_exits_with_an_error(publisher, checkout):
    raw = checkout / "data" / "01_raw" / "mine"
    run = kedro_download(checkout, kedro, base=publisher.address, files=[{"name": "missing.gz"}, {"name": NAME}])
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("transcriptome_diffusion.cohorts.download.DownloadError: ")
    assert "missing.gz answers 404" in last
    assert left_in(raw) == []
    run = kedro_download(checkout, base=publisher.address, files=[{"name": NAME, "sha256": SHA256}])
    assert run.returncode == 0, run.stdout[-2000:]
    assert (raw / NAME).read_bytes() == CONTENT
    run = kedro_download(checkout)
    assert run.returncode == 0
    assert "This environment has nothing to fetch" in run.stdout + run.stderr


@pytest.mark.parametrize(
    ("silent", "line"), [(False, rf"{NAME}: 100 % of \S+ GB fetched"), (True, rf"{NAME}: \S+ GB fetched")]
)
def test_a_long_download_without_a_terminal_tells_how_far_it_is(publisher, tmp_path, monkeypatch, caplog, silent, line):
    monkeypatch.setattr(progress, "LOG_EVERY", 0)
    publisher.silent = silent
    with caplog.at_level(logging.INFO):
        download(options(publisher, tmp_path))
    assert re.search(line, caplog.text)
