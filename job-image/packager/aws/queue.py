"""Sending to an SQS queue, standard or FIFO."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from entrypackage.failures import Failure, FailureClass
from packager.aws.client import Aws, AwsError, AwsRequest, Fence
from packager.http1 import Address, Client, ConnectionBroken

if TYPE_CHECKING:
    from packager.aws.client import AwsCredentials


_QUEUE_HOST: Final = re.compile(
    r"(?:(?:vpce-[a-z0-9-]+\.)?sqs(?:-fips)?\.([a-z0-9-]+)(?:\.vpce)?|([a-z0-9-]+)\.queue)\.(?:amazonaws\.com(?:\.cn)?|api\.aws)"
)


def queue_region(queue_url: str) -> str | None:
    """Return the region that the queue's URL names, if it is AWS's."""
    host = urlsplit(queue_url).hostname or ""
    found = _QUEUE_HOST.fullmatch(host)
    return (found.group(1) or found.group(2)) if found else None


class Queue:
    """The queue of one order."""

    def __init__(self, client: Client, credentials: AwsCredentials, queue_url: str, endpoint: str | None, region: str):
        """Send to the host of the queue's URL, or to `endpoint`."""
        self._aws = Aws(client, credentials, service="sqs", region=queue_region(queue_url) or region)
        self._queue_url = queue_url
        parts = urlsplit(queue_url)
        self._endpoint = f"{(endpoint or f'{parts.scheme}://{parts.netloc}').rstrip('/')}/"

    async def send(self, body: str, attributes: dict[str, str], fence: Fence) -> str:
        """Send one message and return its id; raises `Failure` (`NotificationFailed` unless access is denied)."""
        text = json.dumps({"QueueUrl": self._queue_url, "MessageBody": body, **attributes}).encode()
        headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": "AmazonSQS.SendMessage"}
        request = AwsRequest("POST", Address.parse(self._endpoint), headers, [text], hashlib.sha256(text).hexdigest())
        try:
            response = await self._aws.send(request, fence)
        except AwsError as error:
            said = f"SQS answered {error.status} {error.code}: {error.message[:300]}"
            # SQS and KMS call it AccessDenied, AccessDeniedException or KMS.AccessDeniedException, with 400 or 403.
            denied = not error.transient and (error.status == 403 or "AccessDenied" in error.code)
            raise Failure(
                FailureClass.DESTINATION_DENIED if denied else FailureClass.NOTIFICATION_FAILED, said
            ) from None
        except ConnectionBroken as error:
            raise Failure(FailureClass.NOTIFICATION_FAILED, f"No answer from SQS: {error}") from None
        try:
            message_id = json.loads(response.body)["MessageId"]
        except (ValueError, KeyError, TypeError):
            raise Failure(FailureClass.NOTIFICATION_FAILED, "SQS's answer has no message id.") from None
        return str(message_id)
