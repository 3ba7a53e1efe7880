"""Published files over HTTP: whole under their own name or not at all, resumed where they were left, no credentials.

A file grows as a hidden ``.part`` beside its final place, named after the address and the version the server
announced, so that a later run goes on with it only if the publisher still has that version.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeVar

import requests
from urllib3.exceptions import HTTPError

from transcriptome_diffusion.artefacts import replaced_when_whole
from transcriptome_diffusion.cohorts.options import DownloadOptions, PublishedFile
from transcriptome_diffusion.cohorts.progress import Progress

logger = logging.getLogger(__name__)

T = TypeVar("T")

CHUNK = 1 << 18
#: statuses that may pass: timeout, too many requests, and what servers and gateways answer when they are overloaded
PASSING = {408, 425, 429, 500, 502, 503, 504}
WHERE = "parameters_download.yml of the environment"


class DownloadError(RuntimeError):
    """A file could not be fetched; the message says which, what was found, and what to do."""


class _Anonymous(requests.Session):
    """Sends no credentials, nor those that a ``.netrc`` has for the host; proxies are those of the environment."""

    def __init__(self) -> None:
        super().__init__()
        self.auth = lambda request: request

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        prepared_request.headers.pop("Authorization", None)


class _Interrupted(Exception):
    """An attempt failed in a way that the next one may not."""


@dataclass(frozen=True)
class _Remote:
    """A file as its server announces it: size, and what names this version of it in ``If-Range``."""

    file: PublishedFile
    url: str
    size: int | None
    version: str | None

    def part(self, folder: Path) -> Path:
        """Where it grows."""
        digest = hashlib.sha256(f"{self.url} {self.version}".encode()).hexdigest()[:12]
        return folder / f".{self.file.name}.{digest}.part"


def download(options: DownloadOptions) -> list[Path]:
    """Fetch what is not yet there and whole, and return where all files lie, in the order of ``options.files``.

    A file that is there counts as whole if its size and SHA-256 are the known ones or, where neither is known, its
    size is the one the server announces. Every server is asked before the first file is fetched, so that a wrong
    address or too small a disk shows at once. A dropped connection is taken up again where it broke
    (``Range`` with ``If-Range``, RFC 9110), or from the beginning if the server cannot do that.

    Raises:
        DownloadError: if a server is out of reach, refuses, or has another file than the known one; if bytes arrive
            damaged; if the disk is too small or not writable. Nothing half-fetched stands under a final name.
    """
    folder = Path(options.folder).expanduser()
    with _explained(folder), _Anonymous() as session:
        # as the publisher keeps it: a server that compresses on the way could neither resume nor announce a size
        session.headers["Accept-Encoding"] = "identity"
        folder.mkdir(parents=True, exist_ok=True)
        wanted = [remote for file in options.files if (remote := _wanted(session, file, folder, options))]
        _require_space(wanted, folder)
        for remote in wanted:
            _fetch(session, remote, folder, options)
    return [folder / file.name for file in options.files]


def _wanted(session: requests.Session, file: PublishedFile, folder: Path, options: DownloadOptions) -> _Remote | None:
    """What the server says of a file that has to be fetched; None if it is there and whole."""
    path = folder / file.name
    known = file.member is not None or file.bytes is not None or file.sha256 is not None
    if path.is_file() and known and _is_whole(path, file, file.bytes):
        return None
    remote = _patiently(lambda: _ask(session, file, options), lambda: 0, file.name, options)
    if path.is_file() and not known and _is_whole(path, file, remote.size):
        return None
    return remote


def _is_whole(path: Path, file: PublishedFile, size: int | None) -> bool:
    if file.member is None:  # what was taken out of an archive has no known size, but was put there whole
        if size is not None and (found := path.stat().st_size) != size:
            logger.warning("%s has %s, expected %s: it is fetched again", path, _bytes(found), _bytes(size))
            return False
        if file.sha256 is not None and (digest := _sha256(path)) != file.sha256:
            logger.warning("%s has SHA-256 %s, expected %s: it is fetched again", path, digest, file.sha256)
            return False
    logger.info("%s is there and whole", path)
    return True


def _ask(session: requests.Session, file: PublishedFile, options: DownloadOptions) -> _Remote:
    """Size and version of a file; GET, since some publishers do not answer HEAD."""
    url = options.address(file)
    with _opened(session, url, {}, options) as response:
        return _Remote(file, url, _announced(response, file), _version(response))


@contextmanager
def _opened(
    session: requests.Session, url: str, headers: dict[str, str], options: DownloadOptions
) -> Iterator[requests.Response]:
    """A response with a body to read; what went wrong is either `_Interrupted`, or says what to mend."""
    try:
        with session.get(url, headers=headers, stream=True, timeout=options.timeout) as response:
            status = f"{response.status_code} {response.reason}"
            at = url if response.url == url else f"{url} (redirected to {response.url})"
            if response.status_code in PASSING:
                raise _Interrupted(f"{at} answers {status}")
            if response.status_code in (404, 410):
                raise DownloadError(
                    f"{at} answers {status}: the publisher has moved the file. Mend its url in {WHERE}."
                )
            if response.status_code not in (200, 206, 416):
                raise DownloadError(
                    f"{at} answers {status}, expected the file. These files need no credentials; "
                    f"try the address in a browser, and mend it in {WHERE}."
                )
            if response.headers.get("Content-Type", "").startswith("text/html"):
                raise DownloadError(f"{at} answers with a web page, expected the file. Mend its url in {WHERE}.")
            yield response
    except (requests.ConnectionError, requests.Timeout, HTTPError) as error:
        raise _Interrupted(f"{url}: {_reason(error)}") from None
    except requests.RequestException as error:
        raise DownloadError(f"{url}: {_reason(error)}. Mend the address in {WHERE}.") from None


def _announced(response: requests.Response, file: PublishedFile) -> int | None:
    """The size of the whole file according to the server; it has to be the known one."""
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity" and not (encoding == "gzip" and file.name.endswith(".gz")):
        raise DownloadError(f"{response.url} sends {encoding}, which nobody asked for. Fetch {file.name} by hand.")
    length = response.headers.get("Content-Length")
    size = int(length) if length is not None and length.isdigit() else None
    if size == 0:
        raise DownloadError(f"{response.url} announces an empty file. Mend its url in {WHERE}, or try again later.")
    if file.bytes is not None and size not in (None, file.bytes):
        raise DownloadError(
            f"{response.url} announces {size} bytes, expected {file.bytes}: the publisher has another file than "
            f"the known one. If you want it, set its bytes (and sha256) in {WHERE}, or null."
        )
    return file.bytes if size is None else size


def _version(response: requests.Response) -> str | None:
    tag = response.headers.get("ETag", "")
    strong = tag if tag.startswith('"') else None  # a weak tag allows other bytes
    return strong or response.headers.get("Last-Modified")


def _patiently(attempt: Callable[[], T], reached: Callable[[], int], name: str, options: DownloadOptions) -> T:
    """Repeat an attempt that may pass; ``reached``, in bytes, tells whether one has brought anything new."""
    furthest, fruitless = reached(), 0
    while True:
        try:
            return attempt()
        except _Interrupted as interruption:
            now = reached()
            fruitless = 1 if now > furthest else fruitless + 1
            furthest = max(furthest, now)
            if fruitless > options.retries:
                kept = f" {_bytes(furthest)} are kept, and the next run goes on from there." if furthest else ""
                raise DownloadError(
                    f"{name}: gave up after {fruitless} attempts that brought nothing new. The last one: "
                    f"{interruption}. Check the connection (and the proxy) and run the same command again.{kept}"
                ) from None
            pause = min(options.pause * 2 ** (fruitless - 1), 60.0)
            logger.warning("%s: %s; next attempt in %.0f s", name, interruption, pause)
            time.sleep(pause)


def _require_space(wanted: list[_Remote], folder: Path) -> None:
    missing = sum((remote.size or 0) - _size_of(remote.part(folder)) for remote in wanted)
    if missing > (free := shutil.disk_usage(folder).free):
        raise DownloadError(
            f"{len(wanted)} files need {_bytes(missing)} more, and the disk of {folder.resolve()} has {_bytes(free)} "
            f"free. Make room, or set `folder` in {WHERE}."
        )


def _fetch(session: requests.Session, remote: _Remote, folder: Path, options: DownloadOptions) -> None:
    """One file: fetched as a part, checked, and put under its name."""
    file, part = remote.file, remote.part(folder)
    for left_over in set(folder.glob(f".{file.name}.*.part")) - {part}:  # of a version the publisher has replaced
        left_over.unlink()
    logger.info("%s: fetching %s", file.name, remote.url)
    whole = remote.size is not None and _size_of(part) == remote.size
    if not whole:
        _patiently(lambda: _append(session, remote, part, options), lambda: _size_of(part), file.name, options)
    digest = _sha256(part)
    if file.sha256 not in (None, digest):
        part.unlink()
        raise DownloadError(
            f"{file.name}: the bytes of {remote.url} have SHA-256 {digest}, expected {file.sha256}; they were removed. "
            f"Run again; if it stays so, the publisher has changed the file, and {WHERE} has to follow."
        )
    logger.info("%s: %s, SHA-256 %s", file.name, _bytes(part.stat().st_size), digest)
    if file.member is None:
        os.replace(part, folder / file.name)
    else:
        _take_out(part, file.member, folder / file.name)


def _append(session: requests.Session, remote: _Remote, part: Path, options: DownloadOptions) -> None:
    """Fetch what ``part`` lacks, or all of it where the server cannot go on from there."""
    start = _size_of(part) if remote.version else 0
    headers = {"Range": f"bytes={start}-", "If-Range": remote.version} if start and remote.version else {}
    with _opened(session, remote.url, headers, options) as response:
        if response.status_code == 416:
            part.unlink()
            raise _Interrupted(f"{remote.url} has no bytes from {start} on")
        if response.status_code == 206:
            total = _total_of_range(response, start)
            if total not in (None, remote.size):
                part.unlink()
                raise _Interrupted(f"{remote.url} now announces {total} bytes in all, before {remote.size}")
        else:
            start, total = 0, _announced(response, remote.file)
        size = remote.size if total is None else total
        with Progress(remote.file.name, size, "fetched", start) as progress, part.open("ab" if start else "wb") as sink:
            for block in response.raw.stream(CHUNK, decode_content=False):
                start += sink.write(block)
                progress(start)
    if size is None and "Transfer-Encoding" not in response.headers:
        logger.warning(
            "%s: %s announces no size, so that nobody can tell whether it is whole", remote.file.name, response.url
        )
    if size is not None and (found := _size_of(part)) != size:
        if found > size:
            part.unlink()
        raise _Interrupted(f"{remote.url} ended after {found} bytes, expected {size}")


def _total_of_range(response: requests.Response, start: int) -> int | None:
    """The size of the whole file in the ``Content-Range`` of a partial answer, which has to begin at ``start``."""
    unit, _, total = response.headers.get("Content-Range", "").partition("/")
    if not unit.startswith(f"bytes {start}-"):
        raise DownloadError(f"{response.url} was asked for the bytes from {start} on and answers with {unit!r}.")
    return int(total) if total.isdigit() else None


def _take_out(archive: Path, pattern: str, final: Path) -> None:
    """Put the one member of a tar archive that matches under its final name, and remove the archive."""
    try:
        with tarfile.open(archive) as tar:
            names = [member for member in tar.getmembers() if member.isfile() and fnmatch(member.name, pattern)]
            source = tar.extractfile(names[0]) if len(names) == 1 else None
            if source is None:
                raise DownloadError(
                    f"{final.name}: {len(names)} files of the archive match {pattern!r}, expected one; it holds "
                    f"{tar.getnames()[:5]}. Mend `member` in {WHERE}."
                )
            with replaced_when_whole(final) as staging, staging.open("wb") as sink:
                shutil.copyfileobj(source, sink)
    except (tarfile.TarError, EOFError) as error:
        archive.unlink()
        raise DownloadError(f"{final.name}: what came is no tar archive ({error}); it was removed.") from None
    archive.unlink()


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Faults of the disk as one sentence; whatever was fetched stays, so that the next run can go on with it."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadError(
                f"the disk of {folder.resolve()} is full. Make room and run again: what has come is kept, and the "
                f"next run goes on from there. Or set `folder` in {WHERE}."
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise DownloadError(
                f"cannot write to {folder.resolve()} ({error.strerror}). Mend its permissions, or set `folder` "
                f"in {WHERE}."
            ) from None
        raise


def _reason(error: Exception) -> str:
    """The innermost cause; what requests and urllib3 wrap around it is about their own classes."""
    cause: BaseException = error
    while (inner := getattr(cause, "reason", None) or cause.__cause__ or cause.__context__) and isinstance(
        inner, BaseException
    ):
        cause = inner
    return str(cause) or type(cause).__name__


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _bytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count} bytes"
