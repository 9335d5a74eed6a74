"""What the sandbox installs the chart with. Pure."""

import copy
from typing import Any

from sandbox.aws import REGION, AwsAddresses

Json = dict[str, Any]

BENCHLING_SECRET = "benchling-app"
AWS_SECRET = "aws-credentials"


def sandbox_values(simulator: Json, addresses: AwsAddresses) -> Json:
    """Return chart values that lead to the simulator (its ready line) and the sandbox's S3 and SQS."""
    definition = simulator["appDefinitionId"]
    return {
        "aws": {"region": REGION},
        "benchling": {
            "baseUrl": simulator["tenant"],
            "appDefinitionIds": [definition],
            "tenantIds": [simulator["tenantId"]],
            "jwksUrl": simulator["jwks"].replace(definition, "{app_definition_id}"),
            "secretName": BENCHLING_SECRET,
        },
        "destination": {
            "bucket": addresses.bucket,
            "queueUrl": addresses.queue_url,
            "s3EndpointUrl": addresses.s3,
            "sqsEndpointUrl": addresses.sqs,
        },
        "receiver": {"ingress": {"className": "sandbox"}},
        "packager": {"envFromSecret": AWS_SECRET},
        # Somebody is watching: half a minute of quiet before each export would bore them.
        "controller": {"settings": {"timing": {"quietPeriodSeconds": 2}}},
    }


def merged(*layers: Json) -> Json:
    """Lay values over each other as helm does: mappings are merged, everything else is replaced."""
    result: Json = {}
    for layer in layers:
        for name, value in layer.items():
            below = result.get(name)
            if isinstance(below, dict) and isinstance(value, dict):
                result[name] = merged(below, value)
            else:
                result[name] = copy.deepcopy(value)
    return result


def secret(name: str, content: dict[str, str]) -> Json:
    """Return a Secret object."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": content}
