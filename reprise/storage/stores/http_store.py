"""Objects of a web server, through the session of fsspec's HTTP file system.

HTTP cannot list, so names come from elsewhere. Redirects are followed on the same server only. A length that is not the
one that the server states, and an ETag or a time that is not the one of the listing, are noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from reprise.config.errors import ImageRefused, SourceError
from reprise.config.texts.addresses import Address
from reprise.storage.listing import too_many_bytes
from reprise.storage.stores.store import ANY, Object, Pace, Settings, Store, UnreachableError, changed, unreadable

_PIECE = 1 << 18
_MOST_REDIRECTS = 5
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
_NO_HEAD = {405, 501}
_LONGEST_WAIT = 60.0  # seconds, whatever a server asks for


class HttpStore(Store):
    """A prefix of a web server."""

    def __init__(self, address: Address, settings: Settings) -> None:
        import aiohttp
        from fsspec.implementations.http import HTTPFileSystem

        super().__init__(address, settings)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=settings.timeout, sock_read=settings.timeout)
        self._files = HTTPFileSystem(
            client_kwargs={"timeout": timeout, "trust_env": True, "auto_decompress": False},
            skip_instance_cache=True,
        )

    def listing(self) -> Iterator[Object]:
        """Refuse: a web server has no listing."""
        raise SourceError(
            "a web server cannot list its files",
            where=self.address,
            found="no list of names",
            fix="Set source.options.names to a text file, or its address, with one name a line.",
        )

    def look_once(self, name: str) -> Object:
        """Ask for the length and the version of one name."""
        described: Object = self._run(self._describe(name))
        return described

    def fetch(self, item: Object, limit: int, write: Callable[[bytes], object]) -> None:
        """Fetch one object."""
        self._run(self._fetch(item, limit, write))

    def _run(self, coroutine: Any) -> Any:
        """Run a coroutine in fsspec's loop; what the network does wrong becomes an UnreachableError."""
        import aiohttp
        from fsspec.asyn import sync
        from fsspec.exceptions import FSTimeoutError

        async def run() -> Any:
            return await coroutine

        try:
            return sync(self._files.loop, run)
        except (FSTimeoutError, TimeoutError) as error:
            raise UnreachableError(f"no answer for {self.settings.timeout:g} seconds") from error
        except aiohttp.ClientPayloadError as error:
            raise UnreachableError("the answer ended before the length that the server stated") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnreachableError(f"the connection failed ({type(error).__name__})") from error

    def _url(self, name: str) -> str:
        base = str(self.address)
        return f"{base}/{quote(name, safe='/')}" if name else base

    async def _answer(self, method: str, name: str) -> Any:
        """Send a request and follow redirects on the same server; the caller closes the answer.

        Raises:
            ImageRefused: `redirected`.
        """
        import yarl

        session = await self._files.set_session()
        url = self._url(name)
        for _ in range(_MOST_REDIRECTS + 1):
            answer = await session.request(
                method,
                yarl.URL(url, encoded=True),
                allow_redirects=False,
                headers={"Accept-Encoding": "identity"},
            )
            if answer.status not in (301, 302, 303, 307, 308):
                return answer
            target = urljoin(url, answer.headers.get("Location", ""))
            answer.release()
            here, there = urlsplit(url), urlsplit(target)
            if (there.hostname, there.port, "@" in there.netloc) != (here.hostname, here.port, False) or (
                there.scheme != here.scheme
            ):
                raise self._redirected(name, f"to {there.scheme}://{there.hostname or ''}, which is elsewhere")
            url = target
        raise self._redirected(name, f"more than {_MOST_REDIRECTS} times")

    async def _describe(self, name: str) -> Object:
        try:
            answer = await self._answer("HEAD", name)
            if answer.status in _NO_HEAD:
                answer.release()
                answer = await self._answer("GET", name)
            try:
                self._check_status(answer)
                if answer.status != 200:
                    return Object(name, None, "", "unreadable", f"the server answers with status {answer.status}")
                return Object(name, _length(answer), _version(answer))
            finally:
                answer.close()
        except ImageRefused as refusal:
            return Object(name, None, "", refusal.what, f"{refusal.found}. {refusal.fix}")

    async def _fetch(self, item: Object, limit: int, write: Callable[[bytes], object]) -> None:
        answer = await self._answer("GET", item.name)
        where = self.shown(item.name)
        try:
            self._check_status(answer)
            if answer.status in (404, 410):
                raise changed(where, "it is gone since it was listed")
            if answer.status != 200:
                raise unreadable(where, f"the server answers with status {answer.status}")
            if answer.headers.get("Content-Encoding", "identity") != "identity":
                raise unreadable(where, "the server sends it compressed, although nobody asked for that")
            length, version = _length(answer), _version(answer)
            if (item.size is not None and length not in (None, item.size)) or item.version not in (ANY, version):
                raise changed(where, "other length, ETag or time than when it was listed")
            size, pace = 0, Pace(self.settings.timeout)
            async for piece in answer.content.iter_chunked(_PIECE):
                write(piece)
                size = pace.add(len(piece))
                if size > limit:
                    raise too_many_bytes(where, size, limit)
            if length is not None and size < length:
                raise UnreachableError("the answer ended before the length that the server stated")
            if item.size is not None and size != item.size:
                raise changed(where, f"{size:,} bytes, and {item.size:,} when it was listed")
        finally:
            answer.close()

    def _check_status(self, answer: Any) -> None:
        if answer.status in _TRANSIENT:
            after = answer.headers.get("Retry-After", "")
            wait = min(float(after), _LONGEST_WAIT) if after.isdecimal() else 0.0
            raise UnreachableError(f"the server answers with status {answer.status}", wait)

    def _redirected(self, name: str, found: str) -> ImageRefused:
        fix = "Name the address that it leads to, if you trust it."
        return ImageRefused("redirected", where=self.shown(name), found=f"the server sends us {found}", fix=fix)


def _length(answer: Any) -> int | None:
    stated = answer.headers.get("Content-Length", "")
    return int(stated) if stated.isdecimal() and len(stated) <= 18 else None


def _version(answer: Any) -> str:
    """Return the ETag, or else the time of modification; empty where the server states neither."""
    return str(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")
