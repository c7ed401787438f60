"""Objects of Google Cloud Storage, by what every file system of fsspec has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reprise.config.errors import SourceError
from reprise.config.texts.addresses import Address
from reprise.storage.listing import too_many_bytes
from reprise.storage.stores.in_order import patiently
from reprise.storage.stores.store import (
    ANY,
    Object,
    Settings,
    Store,
    UnreachableError,
    changed,
    not_installed,
    nothing_there,
    unreadable,
)

_PIECE = 8 << 20
_VERSION = ("etag", "ETag", "generation", "md5Hash", "mtime", "ino", "updated")


class OtherStore(Store):
    """A prefix of a file system of fsspec."""

    def __init__(self, address: Address, settings: Settings) -> None:
        import fsspec

        super().__init__(address, settings)
        # What was listed is never taken for what is there now.
        options: dict[str, Any] = {"use_listings_cache": False}
        try:
            if address.protocol == "gs":
                options |= {"session_kwargs": {"timeout": _silence(settings.timeout)}}
                options |= {"token": "anon"} if settings.anonymous else {}
            self._files: Any = fsspec.filesystem(address.protocol, skip_instance_cache=True, **options)
        except ImportError as error:
            raise not_installed(address, "gcsfs") from error

    def listing(self) -> Iterator[Object]:
        """Yield all objects below the address, sorted by name."""
        try:
            found: dict[str, dict[str, Any]] = patiently(
                lambda: self._asked(self._files.find, self.address.place, detail=True), self.settings, str(self.address)
            )
        except FileNotFoundError as error:  # there is no such bucket
            raise nothing_there(self.address) from error
        except PermissionError as error:
            raise self._refused("listed", "") from error
        prefix = f"{self.address.place}/"
        below = {path: info for path, info in found.items() if path.startswith(prefix) and not path.endswith("/")}
        if not below:
            raise nothing_there(self.address)
        for path, info in sorted(below.items()):
            yield self._object(path.removeprefix(prefix), info)

    def look_once(self, name: str) -> Object:
        """Ask for the length and the version of one name."""
        try:
            info = self._asked(self._files.info, self._path(name))
        except (FileNotFoundError, PermissionError) as error:
            return Object(name, None, "", "unreadable", f"it cannot be read ({type(error).__name__})")
        return self._object(name, info)

    def fetch(self, item: Object, limit: int, write: Callable[[bytes], object]) -> None:
        """Fetch one object, and compare its version afterwards."""
        where, path, size = self.shown(item.name), self._path(item.name), 0
        if (item.size or 0) > limit:
            raise too_many_bytes(where, item.size or 0, limit)
        try:
            while size <= (item.size or 0):  # one byte more than there should be shows that it grew
                end = min(size + _PIECE, (item.size or 0) + 1)
                piece: bytes = self._asked(self._files.cat_file, path, start=size, end=end)
                if not piece:
                    break
                write(piece)
                size += len(piece)
            after = self._object(item.name, self._asked(self._files.info, self._path(item.name)))
        except FileNotFoundError as error:
            raise changed(where, "it is gone since it was listed") from error
        except PermissionError as error:
            raise unreadable(where, "no permission") from error
        if size != item.size or item.version not in (ANY, after.version):
            raise changed(where, "other length or version than when it was listed")

    def send(self, name: str, path: Path, sha256: str) -> None:
        """Put an object, in one request where the store's own library does."""
        try:
            self._asked(self._files.put_file, str(path), self._path(name))
        except PermissionError as error:
            raise self._refused("written", name) from error

    def remove(self, name: str) -> None:
        """Delete an object."""
        try:
            self._asked(self._files.rm_file, self._path(name))
        except PermissionError as error:
            raise self._refused("deleted from", name) from error

    def _refused(self, use: str, name: str) -> SourceError:
        return SourceError(
            f"the store refuses to be {use}",
            where=self.shown(name),
            found="no permission",
            fix="Check the bucket's name, and the credentials in the environment.",
        )

    def _path(self, name: str) -> str:
        return f"{self.address.place}/{name}" if name else self.address.place

    def _object(self, name: str, info: dict[str, Any]) -> Object:
        version = " ".join(str(info[key]) for key in _VERSION if info.get(key) is not None)
        if info.get("type") != "file":
            return Object(name, None, version, "not_a_file", "it is no file")
        return Object(name, info.get("size"), version)

    def _asked(self, function: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except (FileNotFoundError, PermissionError):
            raise
        except Exception as error:
            raise UnreachableError(f"the store fails ({type(error).__name__})") from error


def _silence(seconds: float) -> Any:
    """Return the timeouts of a client: for a connection, and for each wait for more of an answer."""
    import aiohttp

    return aiohttp.ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds)
