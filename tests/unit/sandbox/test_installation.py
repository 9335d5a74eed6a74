"""The chart's values in the sandbox."""

from sandbox.aws import AwsAddresses
from sandbox.installation import merged, sandbox_values

SIMULATOR = {
    "tenant": "http://127.0.0.1:1",
    "jwks": "http://127.0.0.1:2/api/v1/apps/appdef_x/jwks",
    "appDefinitionId": "appdef_x",
    "tenantId": "ten_x",
}


def test_layers_are_merged_as_helm_does() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert merged(base, {"a": {"c": [3]}}, {"d": {"e": 2}}) == {"a": {"b": 1, "c": [3]}, "d": {"e": 2}}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 1}


def test_key_address_is_a_pattern_of_the_definition() -> None:
    values = sandbox_values(SIMULATOR, AwsAddresses("http://s3", "http://sqs", "bucket", "http://sqs/queue"))
    assert values["benchling"]["jwksUrl"] == "http://127.0.0.1:2/api/v1/apps/{app_definition_id}/jwks"
    assert values["destination"]["queueUrl"] == "http://sqs/queue"
