"""Options of the sources that read from stores."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from reprise.config.params import StrictModel, meaning
from reprise.config.texts.addresses import problem_of
from reprise.config.texts.text_forms import wrong_value
from stages.ingest.remotes.store import Settings


def _web_address(value: str) -> str:
    problem = problem_of(value)
    if problem is None and not value.startswith(("http://", "https://")):
        problem = ("a server that speaks S3 has an address that begins with http:// or https://", "")
    if problem is not None:
        raise wrong_value(*problem)
    return value


class StoreParams(StrictModel):
    """How stores are asked."""

    endpoint: Annotated[
        Annotated[str, Field(max_length=4096), AfterValidator(_web_address)] | None,
        meaning("The server at this address speaks S3; null asks Amazon, or what AWS_ENDPOINT_URL names."),
    ] = None
    anonymous: Annotated[bool, meaning("A public bucket is read without credentials.")] = False
    threads: Annotated[int, Field(ge=1, le=256), meaning("So many objects are fetched at once.", "threads")] = 16
    attempts: Annotated[
        int, Field(ge=1, le=20), meaning("A request that fails for the moment is made so many times.", "attempts")
    ] = 5
    timeout: Annotated[float, Field(gt=0, le=3600), meaning("A server may stay silent for this long.", "seconds")] = (
        30.0
    )

    @property
    def settings(self) -> Settings:
        """The same for stores."""
        return Settings(self.endpoint, self.anonymous, self.timeout, self.threads, self.attempts)
