"""The objects of one bucket: list, HEAD, read, put, put in parts, delete. It decides nothing about packages."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote_plus, urlencode
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from entrypackage.failures import Failure, FailureClass
from packager.archive.format import quoted
from packager.archive.unpack import crc32
from packager.aws.client import Aws, AwsError, AwsRequest, AwsResponse, Fence, failure_of
from packager.decisions.objects import ListedObject, ObjectFacts
from packager.http1 import Address, Client, ConnectionBroken
from packager.retrying import Retrying

if TYPE_CHECKING:
    from packager.aws.client import AwsCredentials

_SMALL_OBJECT_BYTES: Final = 256 * 1024 * 1024
"""An inventory or ``entry.json`` of as many members as an archive may have takes some 100 MB."""

_ENCODED: Final = {"encoding-type": "url"}
"""Keys may hold characters that XML cannot; one such key would make the whole listing unreadable."""

_CRC32: Final = {"x-amz-sdk-checksum-algorithm": "CRC32"}

_OPTIONS_HEADER: Final = "x-amz-meta-entrypackage-options"
"""Every object says with which settings it was stored, so that a change of them reaches it whatever comes between."""

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

Body = Sequence[bytes | bytearray | memoryview]


@dataclass(frozen=True, slots=True)
class Part:
    """An uploaded part."""

    number: int
    etag: str
    crc32: int


@dataclass(frozen=True, slots=True)
class ObjectOptions:
    """What every object of the package is stored with."""

    kms_key_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def headers(self) -> dict[str, str]:
        """Return them as S3's headers; raises `Failure` (`OrderInvalid`) for what no header can hold."""
        headers = {f"x-amz-meta-{_header_name(name)}": _header_value(value) for name, value in self.metadata.items()}
        if self.kms_key_id:
            headers["x-amz-server-side-encryption"] = "aws:kms"
            headers["x-amz-server-side-encryption-aws-kms-key-id"] = self.kms_key_id
        if self.tags:
            headers["x-amz-tagging"] = urlencode(self.tags, quote_via=quote)
        return headers


def digest_of(options: Mapping[str, str]) -> str:
    """Return a digest that is equal for equal headers; empty where there are none."""
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:16] if options else ""


def _header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise Failure(FailureClass.ORDER_INVALID, f"The metadata's name {quoted(name)} cannot be sent to S3.")
    return name.lower()


def _header_value(value: str) -> str:
    if not value.isprintable():
        raise Failure(FailureClass.ORDER_INVALID, f"The metadata's value {quoted(value)} cannot be sent to S3.")
    # S3 takes other letters than ASCII's as RFC 2047 writes them, and gives them back in that form.
    return value if value.isascii() else f"=?UTF-8?B?{base64.b64encode(value.encode()).decode()}?="


class Store:
    """One bucket. What changes it takes a fence, except the claim's own conditional put and the abortion of an upload.

    Every error is raised as a `Failure`.
    """

    def __init__(self, aws: Aws, base_url: str, options: ObjectOptions) -> None:
        """Use the bucket whose objects are at ``<base_url>/<key>``."""
        self._aws = aws
        self._base = Address.parse(base_url)
        self._options = options.headers()
        self.options = digest_of(self._options)
        """The digest of the settings that objects are stored with; empty where there are none."""
        if self.options:
            self._options[_OPTIONS_HEADER] = self.options

    async def _call(
        self, what: str, method: str, key: str, query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None, body: Body = (), fence: Fence | None = None,
        expected: Sequence[int] = (), response_bytes: int | None = None,
    ) -> AwsResponse | AwsError:  # fmt: skip
        target = f"{self._base.target.rstrip('/')}/{quote(key, safe='/~')}"
        if query is not None:
            target += "?" + urlencode(sorted(query.items()), quote_via=quote, safe="")
        address = Address(self._base.secure, self._base.host, self._base.port, target)
        request = AwsRequest(method, address, headers or {}, body)
        if response_bytes is not None:
            request = replace(request, response_bytes=response_bytes)
        try:
            return await self._aws.send(request, fence)
        except AwsError as error:
            if error.status in expected:
                return error
            raise failure_of(error, _named(what, key)) from None
        except ConnectionBroken as error:
            raise failure_of(error, _named(what, key)) from None

    async def objects(self, prefix: str) -> dict[str, ListedObject]:
        """Return every object under a prefix."""
        found: dict[str, ListedObject] = {}
        query = {"list-type": "2", "prefix": prefix, "max-keys": "1000", **_ENCODED}
        while True:
            response = await self._done("listing the package", "GET", "", query)
            tree = _xml(response.body)
            for item in tree.iter("Contents"):
                etag = (item.findtext("ETag") or "").strip('"')
                found[_key(tree, item.findtext("Key"))] = ListedObject(int(item.findtext("Size") or 0), etag)
            token = tree.findtext("NextContinuationToken")
            if tree.findtext("IsTruncated") != "true" or not token:
                return found
            query["continuation-token"] = token

    async def _done(
        self, what: str, method: str, key: str, query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None, body: Body = (), fence: Fence | None = None,
    ) -> AwsResponse:  # fmt: skip
        response = await self._call(what, method, key, query, headers, body, fence)
        assert isinstance(response, AwsResponse)
        return response

    async def head(self, key: str) -> ObjectFacts | None:
        """Return what a HEAD says of an object; None if there is none."""
        response = await self._call(
            "looking at a file", "HEAD", key, headers={"x-amz-checksum-mode": "ENABLED"}, expected=(404,)
        )
        if isinstance(response, AwsError):
            return None
        whole = response.headers.get("x-amz-checksum-type", "FULL_OBJECT").upper() == "FULL_OBJECT"
        checksum = parse_crc32(response.headers.get("x-amz-checksum-crc32")) if whole else None
        size = int(response.headers.get("content-length", "-1"))
        etag = response.headers.get("etag", "").strip('"')
        return ObjectFacts(size, checksum, etag, response.headers.get(_OPTIONS_HEADER, ""))

    async def get(self, key: str) -> tuple[bytes, str] | None:
        """Read a small object and its ETag; None if there is none."""
        response = await self._call("reading a file", "GET", key, expected=(404,), response_bytes=_SMALL_OBJECT_BYTES)
        if isinstance(response, AwsError):
            if response.code == "NoSuchBucket":
                raise failure_of(response, _named("reading a file", key))
            return None
        return response.body, response.headers.get("etag", "").strip('"')

    async def put(self, key: str, body: Body, *, crc: int, content_type: str, fence: Fence) -> None:
        """Put an object that S3 verifies by `crc`."""
        headers = {**self._options, **_CRC32, "content-type": content_type, "x-amz-checksum-crc32": crc32_header(crc)}
        await self._done("storing a file", "PUT", key, None, headers, body, fence)

    async def put_if(self, key: str, body: bytes, *, etag: str | None) -> str | None:
        """Put a JSON object over the one with `etag` (None: only if there is none); return the new ETag.

        None means that something else is there: another's object, or this one after a lost answer.
        """
        condition = {"if-match": f'"{etag}"'} if etag else {"if-none-match": "*"}
        headers = {
            **self._options,
            **condition,
            **_CRC32,
            "content-type": "application/json",
            "x-amz-checksum-crc32": crc32_header(crc32(body)),
        }
        response = await self._call("writing the inventory", "PUT", key, None, headers, [body], expected=(412, 404))
        if isinstance(response, AwsError):
            if response.code == "NoSuchBucket":
                raise failure_of(response, _named("writing the inventory", key))
            return None
        return response.headers.get("etag", "").strip('"')

    async def begin_upload(self, key: str, *, content_type: str, fence: Fence) -> str:
        """Begin an upload in parts; return its id."""
        headers = {
            **self._options,
            "content-type": content_type,
            "x-amz-checksum-algorithm": "CRC32",
            "x-amz-checksum-type": "FULL_OBJECT",
        }
        response = await self._done("beginning a large file", "POST", key, {"uploads": ""}, headers, (), fence)
        upload = _xml(response.body).findtext("UploadId")
        if not upload:
            raise Failure(FailureClass.DESTINATION_DOWN, "S3 began an upload without saying its id.")
        return upload

    async def put_part(self, key: str, upload: str, number: int, body: Body, *, crc: int, fence: Fence) -> Part:
        """Put one part, verified by its own CRC-32."""
        query = {"partNumber": str(number), "uploadId": upload}
        headers = {**_CRC32, "x-amz-checksum-crc32": crc32_header(crc)}
        response = await self._done("storing a part of a large file", "PUT", key, query, headers, body, fence)
        return Part(number, response.headers.get("etag", "").strip('"'), crc)

    async def complete_upload(self, key: str, upload: str, parts: Sequence[Part], *, crc: int, fence: Fence) -> None:
        """Make an object of its parts; S3 verifies it by the CRC-32 of the whole.

        S3 may answer 200 and say in the body that it failed, which is tried again like any other error; and a lost
        answer makes the next try a 404. In both cases a HEAD of the object decides.
        """
        rows = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber><ETag>&quot;{escape(part.etag)}&quot;</ETag>"
            f"<ChecksumCRC32>{crc32_header(part.crc32)}</ChecksumCRC32></Part>"
            for part in sorted(parts, key=lambda part: part.number)
        )
        body = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
        headers = {
            "content-type": "application/xml",
            "x-amz-checksum-crc32": crc32_header(crc),
            "x-amz-checksum-type": "FULL_OBJECT",
        }
        what = "completing a large file"
        response = await self._call(what, "POST", key, {"uploadId": upload}, headers, [body], fence, (200, 404))
        if isinstance(response, AwsResponse):
            return
        facts = await self.head(key)
        if facts is None or facts.crc32 != crc:
            raise failure_of(response, _named(what, key))

    async def abort_upload(self, key: str, upload: str, *, fence: Fence | None = None) -> None:
        """Abort an upload and free its parts. Only the packager that began it may do so without a fence."""
        await self._call("giving up a large file", "DELETE", key, {"uploadId": upload}, fence=fence, expected=(404,))

    async def uploads(self, prefix: str) -> list[tuple[str, str]]:
        """Return key and id of every unfinished upload under a prefix."""
        found: list[tuple[str, str]] = []
        query = {"uploads": "", "prefix": prefix, **_ENCODED}
        while True:
            tree = _xml((await self._done("listing unfinished uploads", "GET", "", query)).body)
            rows = [(_key(tree, item.findtext("Key")), item.findtext("UploadId") or "") for item in tree.iter("Upload")]
            found.extend(row for row in rows if row[0].startswith(prefix))
            key, upload = _key(tree, tree.findtext("NextKeyMarker")), tree.findtext("NextUploadIdMarker")
            if tree.findtext("IsTruncated") != "true" or not key or not rows:
                return found
            query |= {"key-marker": key, "upload-id-marker": upload or ""}

    async def delete(self, key: str, *, fence: Fence) -> None:
        """Delete an object; one that is gone already is fine."""
        await self._call("removing a file", "DELETE", key, fence=fence, expected=(404,))

    async def versioned(self) -> bool:
        """Return whether a deleted object could be brought back."""
        response = await self._call("asking for versioning", "GET", "", {"versioning": ""}, expected=(404, 501))
        return isinstance(response, AwsResponse) and _xml(response.body).findtext("Status") == "Enabled"


def crc32_header(crc: int) -> str:
    """Write a CRC-32 as S3's checksum headers do: base64 of four bytes, highest first."""
    return base64.b64encode(crc.to_bytes(4, "big")).decode()


def parse_crc32(header: str | None) -> int | None:
    """Read a checksum header back; None if it is absent or not one of a whole object."""
    if not header or "-" in header:
        return None
    try:
        raw = base64.b64decode(header, validate=True)
    except ValueError:
        return None
    return int.from_bytes(raw, "big") if len(raw) == 4 else None


def _named(what: str, key: str) -> str:
    return f"{what} {quoted(key)}" if key else what


def _key(tree: ET.Element, text: str | None) -> str:
    """Return a key as a listing writes it: decoded, if the server says that it encodes keys."""
    return unquote_plus(text or "") if tree.findtext("EncodingType") == "url" else text or ""


def _xml(body: bytes) -> ET.Element:
    try:
        tree = ET.fromstring(body)  # noqa: S314 - from S3 itself, over TLS
    except ET.ParseError:
        raise Failure(FailureClass.DESTINATION_DOWN, "S3's answer is not XML.") from None
    for element in tree.iter():
        element.tag = element.tag.rpartition("}")[2]
    return tree


async def open_store(
    client: Client, credentials: AwsCredentials, bucket: str, *, region: str | None, default_region: str,
    endpoint_url: str | None, options: ObjectOptions,
) -> Store:  # fmt: skip
    """Return the bucket's store; its region is looked up unless it is given or the endpoint is not AWS's."""
    if endpoint_url:
        found = region or default_region
        base = f"{endpoint_url.rstrip('/')}/{bucket}"
    else:
        found = region or await find_region(client, bucket, default_region)
        base = _aws_url(bucket, found)
    return Store(Aws(client, credentials, service="s3", region=found), base, options)


def _aws_url(bucket: str, region: str) -> str:
    host = f"s3.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")
    # A dot in the name does not fit the certificate's wildcard, so such buckets are addressed by path.
    return f"https://{host}/{bucket}" if "." in bucket else f"https://{bucket}.{host}"


async def find_region(client: Client, bucket: str, default_region: str) -> str:
    """Return the region of a bucket of AWS."""
    return await ask_region(client, f"{_aws_url(bucket, default_region)}/", default_region)


async def ask_region(client: Client, url: str, default_region: str, retrying: Retrying | None = None) -> str:
    """Return the region of the bucket at `url`, which S3 names in a header, also of a redirect or a refusal.

    A passing error must not be taken for "in the default region": what is sent to a wrong region is refused for good.
    """
    retrying = retrying or Retrying()
    failures = 0
    while True:
        try:
            response = await client.request("HEAD", Address.parse(url), {})
        except ConnectionBroken as error:
            problem = error
        else:
            response.close()
            region = response.headers.get("x-amz-bucket-region")
            if region or response.status < 500:
                return region or default_region
            problem = ConnectionBroken(f"S3 answered {response.status}.")
        failures += 1
        if failures >= retrying.tries:
            raise failure_of(problem, "finding the bucket's region")
        await asyncio.sleep(retrying.backoff.delay_seconds(failures, Random().random()))  # noqa: S311 - jitter
