"""What an error of AWS means for the attempt."""

from __future__ import annotations

import pytest

from entrypackage.failures import FailureClass
from packager.aws.client import AwsError, failure_of

DENIED, DOWN = FailureClass.DESTINATION_DENIED, FailureClass.DESTINATION_DOWN


@pytest.mark.parametrize(
    ("status", "code", "failure"),
    [
        (403, "AccessDenied", DENIED),
        (404, "NoSuchBucket", DENIED),
        (404, "NoSuchUpload", DOWN),
        (400, "InvalidPart", DOWN),
        (200, "InvalidRequest", DOWN),
        (200, "InternalError", DOWN),
        (400, "ExpiredToken", DENIED),
        (403, "RequestTimeTooSkewed", DOWN),
        (400, "RequestExpired", DOWN),
        (400, "KMS.ThrottlingException", DOWN),
        (400, "Error", DENIED),
        (301, "PermanentRedirect", DENIED),
    ],
)
def test_what_a_refusal_means(status: int, code: str, failure: FailureClass) -> None:
    assert failure_of(AwsError(status, code, "no reason", {}), "storing a file").failure is failure


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (301, "PermanentRedirect"),
        (301, "Error"),
        (307, "TemporaryRedirect"),
        (400, "AuthorizationHeaderMalformed"),
        (400, "IllegalLocationConstraintException"),
    ],
)
def test_the_bucket_s_region_is_named(status: int, code: str) -> None:
    error = AwsError(status, code, "", {"x-amz-bucket-region": "eu-west-1"})

    assert failure_of(error, "listing the package").message == (
        f"AWS answered {status} {code} to listing the package, because the bucket is in eu-west-1."
    )
    assert "because" not in failure_of(AwsError(status, code, "", {}), "listing the package").message
