"""A role's session: renewed in time, kept while it is good, and never replaced by other rights."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from entrypackage.failures import Failure, FailureClass
from packager.archive.source import LocalArchiveSource
from packager.attempt import prepare
from packager.aws.client import Aws, AwsRequest
from packager.aws.credentials import FixedCredentials, RoleCredentials, find_credentials
from packager.http1 import Address, Client
from tests.support.archives import make_zip
from tests.support.packager_process import Attempt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from awscrt.auth import AwsCredentialsProvider


@dataclass
class Sts:
    """A security token service that answers what it was told to; by default sessions that last so many seconds."""

    lasting: float = 3600
    answers: list[tuple[int, str]] = field(default_factory=list)
    forms: list[str] = field(default_factory=list)
    url: str = ""
    silent: bool = False
    """What is asked from now on waits for `speaks`."""
    speaks: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            form = (await reader.readexactly(length)).decode()
            async with self.asked:
                self.forms.append(form)
                self.asked.notify_all()
            if self.silent:
                await self.speaks.wait()
            status, text = self.answers.pop(0) if self.answers else (200, self.session())
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
            await writer.drain()
        writer.close()

    def session(self) -> str:
        ends = (datetime.now(UTC) + timedelta(seconds=self.lasting)).isoformat()
        key = f"ASIA{len(self.forms)}"
        return (
            f"<Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
            f"<SessionToken>t</SessionToken><Expiration>{ends}</Expiration></Credentials>"
        )


@contextlib.asynccontextmanager
async def running(sts: Sts) -> AsyncIterator[Sts]:
    server = await asyncio.start_server(sts.answer, "127.0.0.1", 0)
    async with server:
        sts.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        yield sts


def role(sts: Sts, token: Path, renewal_seconds: float = 15.0) -> RoleCredentials:
    """Return a role that is taken on by a web identity."""
    token.write_text("web.identity.token\n")
    form = {"Action": "AssumeRoleWithWebIdentity"}
    return RoleCredentials(Client(), sts.url, "eu-west-1", form, token_file=token, renewal_seconds=renewal_seconds)


async def due(credentials: RoleCredentials) -> AwsCredentialsProvider:
    """Get a first session that is to be renewed at once although it lasts on."""
    provider = await credentials.provider()
    assert credentials._session is not None
    object.__setattr__(credentials._session, "renew_at", 0.0)
    return provider


async def key(credentials: RoleCredentials) -> str:
    """Return the access key in use."""
    provider = await credentials.provider()
    return str((await asyncio.wrap_future(provider.get_credentials())).access_key_id)


def error(code: str) -> str:
    return f"<ErrorResponse><Error><Code>{code}</Code><Message>as told</Message></Error></ErrorResponse>"


async def test_a_session_serves_until_it_is_forgotten(tmp_path: Path) -> None:
    async with running(Sts()) as sts:
        credentials = role(sts, tmp_path / "token")
        first = await asyncio.gather(*(key(credentials) for _ in range(20)))
        assert (set(first), len(sts.forms)) == ({"ASIA1"}, 1)
        assert "WebIdentityToken=web.identity.token" in sts.forms[0]

        assert credentials.forget(await credentials.provider())
        assert await key(credentials) == "ASIA2"


@pytest.mark.parametrize(("status", "code"), [(503, "ServiceUnavailable"), (400, "IDPCommunicationError")])
async def test_what_passes_at_sts_is_tried_again(status: int, code: str, tmp_path: Path) -> None:
    async with running(Sts(answers=[(status, error(code))] * 2)) as sts:
        assert await key(role(sts, tmp_path / "token")) == "ASIA3"


async def test_a_session_that_is_still_good_outlives_a_failed_renewal(tmp_path: Path) -> None:
    # It is to be renewed after half of its life, which is a moment here; then STS is away.
    async with running(Sts(lasting=40)) as sts:
        credentials = role(sts, tmp_path / "token")
        await due(credentials)
        sts.answers = [(503, error("ServiceUnavailable"))] * 3

        assert await key(credentials) == "ASIA1"
        asked = len(sts.forms)
        assert await key(credentials) == "ASIA1"
        assert len(sts.forms) == asked, "not asked again at once"


async def test_a_session_that_is_over_cannot_be_used_when_sts_refuses(tmp_path: Path) -> None:
    async with running(Sts(lasting=2, answers=[])) as sts:
        credentials = role(sts, tmp_path / "token")
        await due(credentials)
        sts.answers = [(403, error("AccessDenied"))]

        with pytest.raises(Failure, match="AccessDenied") as caught:
            await credentials.provider()
    assert caught.value.failure is FailureClass.DESTINATION_DENIED


async def test_keys_that_are_given_have_no_successor() -> None:
    credentials = find_credentials(
        Client(), {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, "us-east-1", role_arn=None, session_name="s"
    )

    assert isinstance(credentials, FixedCredentials)
    assert not credentials.forget(await credentials.provider())


async def test_others_go_on_with_a_good_session_while_it_is_renewed(tmp_path: Path) -> None:
    async with running(Sts()) as sts:
        credentials = role(sts, tmp_path / "token")
        await due(credentials)
        sts.silent = True
        renewing = asyncio.create_task(key(credentials))
        async with sts.asked:
            await sts.asked.wait_for(lambda: len(sts.forms) == 2)

        async with asyncio.timeout(10):
            assert {await key(credentials) for _ in range(5)} == {"ASIA1"}
        assert not renewing.done()
        sts.speaks.set()
        assert await renewing == "ASIA2"
        assert await key(credentials) == "ASIA2"
        assert len(sts.forms) == 2


async def test_a_renewal_that_hangs_is_put_off_while_the_session_is_good(tmp_path: Path) -> None:
    async with running(Sts()) as sts:
        credentials = role(sts, tmp_path / "token", renewal_seconds=0.2)
        await due(credentials)
        sts.silent = True

        async with asyncio.timeout(10):
            assert await key(credentials) == "ASIA1"
            assert await key(credentials) == "ASIA1"
        assert len(sts.forms) == 2, "not asked again at once"
        sts.speaks.set()


async def test_a_renewal_of_what_is_over_is_waited_for(tmp_path: Path) -> None:
    """There is nothing to go on with, as at the beginning."""
    async with running(Sts(lasting=2)) as sts:
        credentials = role(sts, tmp_path / "token", renewal_seconds=0.0)
        await due(credentials)
        sts.answers = [(503, error("ServiceUnavailable"))] * 4

        assert await key(credentials) == "ASIA6"


async def test_a_session_that_was_refused_while_it_was_renewed_is_not_gone_back_to(tmp_path: Path) -> None:
    async with running(Sts()) as sts:
        credentials = role(sts, tmp_path / "token")
        refused = await due(credentials)
        sts.silent = True
        sts.answers = [(403, error("AccessDenied"))]
        renewing = asyncio.create_task(key(credentials))
        async with sts.asked:
            await sts.asked.wait_for(lambda: len(sts.forms) == 2)
        assert credentials.forget(refused)
        sts.speaks.set()

        assert await renewing == "ASIA3"


@pytest.mark.parametrize("said", [error("ExpiredToken"), ""], ids=["expired", "unexplained"])
async def test_a_late_refusal_does_not_cost_the_session_that_came_after(said: str, tmp_path: Path) -> None:
    """Two requests are signed with one session; the second is refused when the first has its successor already."""
    arrived: list[str] = []
    both, renewed = asyncio.Event(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            used = head.partition("Credential=")[2].partition("/")[0]
            arrived.append(used)
            if len(arrived) == 2:
                both.set()
            await both.wait()
            if used != "ASIA1":
                renewed.set()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            else:
                if "/late " in head:
                    await renewed.wait()
                body = "" if head.startswith("HEAD") else said
                writer.write(f"HTTP/1.1 400 X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with running(Sts()) as sts, server:
        aws = Aws(Client(), role(sts, tmp_path / "token"), service="s3", region="eu-west-1")
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        method = "GET" if said else "HEAD"
        requests = [AwsRequest(method, Address.parse(f"{base}/{name}")) for name in ("early", "late")]
        async with asyncio.timeout(20):
            answers = await asyncio.gather(*(aws.send(request) for request in requests))

        assert [answer.status for answer in answers] == [200, 200]
        assert arrived == ["ASIA1", "ASIA1", "ASIA2", "ASIA2"]
        assert len(sts.forms) == 2


async def test_sts_is_asked_in_the_pods_region_whatever_the_buckets() -> None:
    order = Attempt("", "bucket", "http://127.0.0.1:9").order()
    order = order.model_copy(
        update={"destination": order.destination.model_copy(update={"region": "ap-east-1", "s3_endpoint_url": None})}
    )
    environment = {
        "AWS_REGION": "eu-west-1", "AWS_ROLE_ARN": "arn:aws:iam::1:role/pod", "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere",
    }  # fmt: skip
    packing = await prepare(order, "", _nothing(), Client(), environment)

    credentials = packing._tools.store._aws._credentials
    assert isinstance(credentials, RoleCredentials)
    assert credentials._endpoint == "https://sts.eu-west-1.amazonaws.com/"


def _nothing() -> LocalArchiveSource:
    import io

    return LocalArchiveSource(io.BytesIO(make_zip({})))
