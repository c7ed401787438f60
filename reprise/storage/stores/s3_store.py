"""Objects of S3, or of a server that speaks it, through s3fs: page by page, each fetched only with its ETag."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import IO, Any

from reprise.config.errors import SourceError
from reprise.config.texts.addresses import Address
from reprise.storage.listing import too_many_bytes
from reprise.storage.stores.in_order import patiently
from reprise.storage.stores.store import (
    ANY,
    Object,
    Pace,
    Settings,
    Store,
    UnreachableError,
    changed,
    not_installed,
    nothing_there,
    unreadable,
)

_PIECE = 1 << 18
_MOST_KEYS = 1000  # of one answer; no store gives more
_GONE = {"NoSuchKey", "404", "NoSuchVersion"}
_CHANGED = {"PreconditionFailed", "412"}
_REFUSED = {
    *("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
    *("NoSuchBucket", "InvalidObjectState", "AllAccessDisabled", "AuthorizationHeaderMalformed", "PermanentRedirect"),
}


class S3Store(Store):
    """A prefix of a bucket."""

    def __init__(self, address: Address, settings: Settings) -> None:
        try:
            from s3fs import S3FileSystem
        except ImportError as error:
            raise not_installed(address, "'reprise[s3]'") from error
        super().__init__(address, settings)
        self._bucket, _, prefix = address.place.partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._files = S3FileSystem(
            anon=settings.anonymous,
            endpoint_url=settings.endpoint,
            config_kwargs={
                "connect_timeout": settings.timeout,
                "read_timeout": settings.timeout,
                "retries": {"total_max_attempts": 1},
                "max_pool_connections": 2 * settings.threads,
            },
            skip_instance_cache=True,
        )
        self._files.retries = 1  # `patiently` tries again

    def listing(self) -> Iterator[Object]:
        """Yield all objects below the prefix, a thousand an answer."""
        following: dict[str, str] = {}
        empty = True
        while True:
            page = patiently(lambda: self._run(self._page(following)), self.settings, str(self.address))  # noqa: B023
            for row in page.get("Contents", ()):
                name = row["Key"].removeprefix(self._prefix)
                if name and not name.endswith("/"):  # a name with a slash at its end stands for a folder
                    empty = False
                    yield Object(name, row["Size"], row["ETag"])
            if not page.get("IsTruncated"):
                break
            following = {"ContinuationToken": page["NextContinuationToken"]}
        if empty:
            raise nothing_there(self.address)

    def look_once(self, name: str) -> Object:
        """Ask for the length and the ETag of one name."""
        described: Object = self._run(self._describe(name))
        return described

    def fetch(self, item: Object, limit: int, write: Callable[[bytes], object]) -> None:
        """Fetch one object, if its ETag is still the one that was listed."""
        self._run(self._fetch(item, limit, write))

    def _key(self, name: str) -> str:
        return self._prefix + name if name else self._prefix.rstrip("/")

    async def _page(self, following: dict[str, str]) -> Any:
        return await self._asked("list_objects_v2", None, Prefix=self._prefix, MaxKeys=_MOST_KEYS, **following)

    async def _describe(self, name: str) -> Object:
        from botocore.exceptions import ClientError

        try:
            row = await self._asked("head_object", name, Key=self._key(name))
        except ClientError as error:
            return Object(name, None, "", "unreadable", f"the store answers {_code(error)}")
        return Object(name, row["ContentLength"], row["ETag"])

    async def _fetch(self, item: Object, limit: int, write: Callable[[bytes], object]) -> None:
        from botocore.exceptions import ClientError

        where = self.shown(item.name)
        try:
            match = {} if item.version == ANY else {"IfMatch": item.version}
            answer = await self._asked("get_object", item.name, Key=self._key(item.name), **match)
        except ClientError as error:
            if _code(error) in _GONE | _CHANGED:
                raise changed(where, f"the store answers {_code(error)} to the ETag that was listed") from error
            raise unreadable(where, f"the store answers {_code(error)}") from error
        body, size, pace = answer["Body"], 0, Pace(self.settings.timeout)
        try:
            while piece := await body.read(_PIECE):
                write(piece)
                size = pace.add(len(piece))
                if size > limit:
                    raise too_many_bytes(where, size, limit)
        finally:
            body.close()
        if size != answer["ContentLength"]:
            raise UnreachableError(f"the answer has {size:,} of {answer['ContentLength']:,} bytes")
        if size != item.size:
            raise changed(where, f"{size:,} bytes instead of {item.size:,}")

    def send(self, name: str, path: Path, sha256: str) -> None:
        """Put an object at once; the store compares it with its hash before it shows it."""
        self._run(self._send(name, path, sha256))

    async def _send(self, name: str, path: Path, sha256: str) -> None:
        from botocore.exceptions import ClientError

        checksum = b64encode(bytes.fromhex(sha256)).decode("ascii")
        try:
            with open(path, "rb") as body:  # noqa: ASYNC230 - in a thread of its own, and botocore reads it in pieces
                asked = self._asked("put_object", name, Key=self._key(name), Body=body, ChecksumSHA256=checksum)
                await self._while_taken(asked, body)
        except ClientError as error:
            raise self._refused(f"the store answers {_code(error)}", "written") from error

    def remove(self, name: str) -> None:
        """Delete an object."""
        self._run(self._remove(name))

    async def _remove(self, name: str) -> None:
        from botocore.exceptions import ClientError

        try:
            await self._asked("delete_object", name, Key=self._key(name))
        except ClientError as error:
            raise self._refused(f"the store answers {_code(error)}", "deleted from") from error

    async def _while_taken(self, asked: Coroutine[Any, Any, Any], body: IO[bytes]) -> None:
        """Wait for an answer for as long as the store takes more of a file: timeouts of botocore are of answers only.

        Raises:
            UnreachableError: it takes nothing.
        """
        task, before = asyncio.ensure_future(asked), -1
        try:
            while not (await asyncio.wait({task}, timeout=self.settings.timeout))[0]:
                now = -2 if body.closed else body.tell()
                if now == before:
                    raise UnreachableError(f"the store takes no byte for {self.settings.timeout:g} seconds")
                before = now
            await task
        finally:
            task.cancel()
            await asyncio.wait({task}, timeout=1)

    async def _asked(self, method: str, name: str | None, **arguments: Any) -> Any:
        """Call the store; a ClientError about one object is raised as it is.

        Raises:
            SourceError: the bucket or all of it is refused. UnreachableError: trying again may help.
        """
        from botocore.exceptions import ClientError

        await self._files.set_session()
        client = await self._files.get_s3(self._bucket)
        try:
            return await getattr(client, method)(Bucket=self._bucket, **arguments)
        except ClientError as error:
            code, status = _code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if status >= 500 or status == 429 or code in ("SlowDown", "RequestTimeout", "Throttling"):
                raise UnreachableError(f"the store answers {code}") from error
            if name is not None:
                raise
            raise self._refused(f"the store answers {code}") from error

    def _run(self, coroutine: Any) -> Any:
        from botocore.exceptions import (
            BotoCoreError,
            ConnectionError,  # noqa: A004 - botocore's
            HTTPClientError,
            NoCredentialsError,
            PartialCredentialsError,
        )
        from fsspec.asyn import sync
        from fsspec.exceptions import FSTimeoutError

        async def run() -> Any:
            return await coroutine

        try:
            return sync(self._files.loop, run)
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise self._refused("no credentials") from error
        except (TimeoutError, ConnectionError, HTTPClientError, FSTimeoutError, OSError) as error:
            raise UnreachableError(f"the connection failed ({type(error).__name__})") from error
        except BotoCoreError as error:  # its text may hold what stands in the settings
            raise self._refused(type(error).__name__) from error

    def _refused(self, found: str, use: str = "read") -> SourceError:
        return SourceError(
            f"the store refuses to be {use}",
            where=self.address,
            found=found,
            fix="Check the bucket's name, and the credentials in the environment or in the files of the store's tools "
            f"(AWS_PROFILE, ~/.aws); to read a public bucket, set {self.settings.options}.anonymous to true.",
        )


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", "an error"))
