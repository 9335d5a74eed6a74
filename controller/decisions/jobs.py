"""The packager's Job: how it is built and how its outcome is read. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from entrypackage import identity
from entrypackage.failures import EXIT_CODES, FailureClass
from entrypackage.order import parse_report
from entrypackage.resource import API_VERSION, KIND

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.settings import PackagerSettings, Timing
    from entrypackage.kubernetes import Object
    from entrypackage.order import Report
    from entrypackage.resource import Attempt, EntryPackage

CONTAINER: Final = "packager"
ORDER_FOLDER: Final = "/etc/entrypackage/order"
GRACE_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class JobView:
    """The parts of a Job that decisions depend on."""

    name: str
    uid: str
    owner_uid: str
    attempt: int
    destination: str
    created_at: datetime
    finished_at: datetime | None
    succeeded: bool
    reason: str
    deleting: bool

    @property
    def is_finished(self) -> bool:
        """Whether the Job has ended."""
        return self.finished_at is not None


@dataclass(frozen=True, slots=True)
class PodView:
    """The parts of a packager's pod that decisions depend on."""

    name: str
    uid: str
    job_name: str
    owner_uid: str
    attempt: int
    phase: str
    started: bool
    exit_code: int | None
    exit_reason: str
    message: str
    disrupted: bool
    waiting: str
    """Why the pod has not started, as the cluster says it; empty if it does not say."""

    @property
    def is_finished(self) -> bool:
        """Whether the pod has stopped for good, so that it writes no more."""
        return self.phase in {"Succeeded", "Failed"}


def common_labels(package: EntryPackage, attempt: Attempt, digest: str, component: str) -> dict[str, str]:
    """Return the labels by which what belongs to an attempt is found."""
    return {
        identity.LABEL_MANAGED_BY: identity.MANAGED_BY,
        identity.LABEL_COMPONENT: component,
        identity.LABEL_OWNER: package.metadata.uid,
        identity.LABEL_ATTEMPT: str(attempt.number),
        identity.LABEL_ORDER: digest[:16],
    }


def owner_reference(package: EntryPackage) -> Object:
    """Return the owner reference that makes Kubernetes delete an object with its EntryPackage."""
    # No blockOwnerDeletion: it needs rights on the owner's finalizers and has no use here.
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": package.metadata.name,
        "uid": package.metadata.uid,
        "controller": True,
    }


def build_job(
    package: EntryPackage,
    attempt: Attempt,
    destination: str,
    order_sources: Sequence[Object],
    settings: PackagerSettings,
    timing: Timing,
) -> Object:
    """Return the Job of an attempt whose order is recorded; raises ValueError if none is.

    `destination` is the hash of where the package goes, `order_sources` the volume sources that hold the order.
    """
    if attempt.order_digest is None or attempt.order_parts is None:
        raise ValueError("a Job needs a recorded order")
    digest = attempt.order_digest
    labels = {
        **common_labels(package, attempt, digest, identity.COMPONENT_PACKAGER),
        identity.LABEL_DESTINATION: destination,
    }
    annotations = {identity.ANNOTATION_ENTRY: package.spec.entry_id, identity.ANNOTATION_DIGEST: digest}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": identity.job_name(package.metadata.uid, attempt.number, digest),
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner_reference(package)],
        },
        "spec": {
            # Only the controller retries: it knows the causes and what may be reused.
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": int(timing.running_deadline_seconds),
            "ttlSecondsAfterFinished": timing.ttl_after_finished_seconds,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _pod_failure_rules()},
            "template": {
                "metadata": {
                    "labels": {**settings.pod_labels, **labels},
                    "annotations": {**settings.pod_annotations, **annotations},
                },
                "spec": _pod_spec(digest, order_sources, settings),
            },
        },
    }


def _pod_failure_rules() -> list[Object]:
    # The first rule that fits counts: an evicted pod is replaced whatever its exit code.
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": sorted(EXIT_CODES)},
        },
    ]


def _container(digest: str, settings: PackagerSettings) -> Object:
    resources = {"cpu": settings.cpu, "memory": settings.memory}
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["python", "-m", "packager", "run", "--order", ORDER_FOLDER, "--digest", digest],
        "env": [
            {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
            {"name": "MEMORY_LIMIT_BYTES", "valueFrom": _limit("limits.memory", "1")},
            {"name": "CPU_LIMIT_MILLIS", "valueFrom": _limit("limits.cpu", "1m")},
            {"name": "LOG_LEVEL", "value": settings.log_level},
            *({"name": name, "value": value} for name, value in sorted(settings.env.items())),
        ],
        "resources": {"requests": resources, "limits": resources},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "order", "mountPath": ORDER_FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - inside the container
        ],
    }
    if settings.env_from_secret is not None:
        container["envFrom"] = [{"secretRef": {"name": settings.env_from_secret}}]
    return container


def _pod_spec(digest: str, order_sources: Sequence[Object], settings: PackagerSettings) -> Object:
    return {
        "restartPolicy": "Never",
        "serviceAccountName": settings.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "imagePullSecrets": [{"name": name} for name in settings.image_pull_secrets],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(digest, settings)],
        "volumes": [
            {"name": "order", "projected": {"sources": list(order_sources)}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        ],
    }


def _limit(resource: str, divisor: str) -> Object:
    return {"resourceFieldRef": {"containerName": CONTAINER, "resource": resource, "divisor": divisor}}


def read_job(job: Object) -> JobView:
    """Return the view of one of our Jobs."""
    metadata, status = job["metadata"], job.get("status") or {}
    labels = metadata.get("labels") or {}
    ended = [
        condition
        for condition in status.get("conditions") or []
        if condition["type"] in {"Complete", "Failed"} and condition["status"] == "True"
    ]
    return JobView(
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=controlling_owner(job),
        attempt=attempt_label(labels),
        destination=labels.get(identity.LABEL_DESTINATION, ""),
        created_at=_time(metadata["creationTimestamp"]),
        finished_at=_time(ended[0]["lastTransitionTime"]) if ended else None,
        succeeded=bool(ended) and ended[0]["type"] == "Complete",
        reason=ended[0].get("reason", "") if ended else "",
        deleting="deletionTimestamp" in metadata,
    )


def read_pod(pod: Object) -> PodView:
    """Read a packager's pod."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    labels = metadata.get("labels") or {}
    statuses = [item for item in status.get("containerStatuses") or [] if item["name"] == CONTAINER]
    state = statuses[0].get("state") or {} if statuses else {}
    ended, waiting = state.get("terminated") or {}, state.get("waiting") or {}
    conditions = {item["type"]: item for item in status.get("conditions") or []}
    scheduled = conditions.get("PodScheduled", {})
    return PodView(
        name=metadata["name"],
        uid=metadata["uid"],
        job_name=labels.get("batch.kubernetes.io/job-name", ""),
        owner_uid=labels.get(identity.LABEL_OWNER, ""),
        attempt=attempt_label(labels),
        phase=status.get("phase", "Pending"),
        started=bool(state.get("running") or ended),
        exit_code=ended.get("exitCode"),
        exit_reason=ended.get("reason", ""),
        message=ended.get("message", ""),
        disrupted=conditions.get("DisruptionTarget", {}).get("status") == "True",
        waiting=waiting.get("message") or waiting.get("reason") or scheduled.get("message") or "",
    )


def controlling_owner(thing: Object) -> str:
    """Return the uid of an object's controlling owner, or an empty string."""
    for owner in thing["metadata"].get("ownerReferences") or []:
        if owner.get("controller"):
            return str(owner["uid"])
    return ""


def attempt_label(labels: Mapping[str, str]) -> int:
    """Return the number of the attempt that an object belongs to; 0 if the label is missing or unreadable."""
    number = labels.get(identity.LABEL_ATTEMPT, "")
    return int(number) if number.isdecimal() else 0


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """The outcome of a Job: a report, or the failure that stands in for it."""

    report: Report | None
    failure: FailureClass | None
    message: str


_TOO_LONG: Final = "The Job exceeded timing.runningDeadlineSeconds."


def read_outcome(job: JobView, pods: list[PodView], digest: str) -> JobOutcome:
    """Return the outcome of a finished Job. A report about another order does not count."""
    ended = [pod for pod in pods if pod.job_name == job.name and pod.exit_code is not None]
    reports = [(pod, report) for pod in ended if (report := _report_of(pod, digest)) is not None]
    # An evicted pod reports a failure; the pod that replaced it may have made the package.
    for pod, report in reports:
        if report.succeeded and pod.exit_code == 0:
            return JobOutcome(report, None, "")
    for _, report in reports:
        if report.failure is FailureClass.DISRUPTED and job.reason == "DeadlineExceeded":
            # The deadline stops a pod as an eviction does. It must count, or a slow Job is retried for ever.
            return JobOutcome(report, FailureClass.TIMEOUT, _TOO_LONG)
        if report.failure is not None:
            return JobOutcome(report, report.failure, report.message)
    for pod in ended:
        if pod.exit_reason == "OOMKilled":
            return JobOutcome(None, FailureClass.OUT_OF_MEMORY, f"Pod {pod.name} was killed at its memory limit.")
        if pod.disrupted:
            return JobOutcome(None, FailureClass.DISRUPTED, f"Pod {pod.name} was evicted.")
    if job.reason == "DeadlineExceeded":
        return JobOutcome(None, FailureClass.TIMEOUT, _TOO_LONG)
    if not ended or (job.succeeded and all(pod.exit_code == 0 for pod in ended)):
        return JobOutcome(None, FailureClass.REPORT_LOST, f"Job {job.name} is over, but no pod of it holds a report.")
    code = ended[0].exit_code or 0
    failure = EXIT_CODES.get(code, FailureClass.INTERNAL)
    return JobOutcome(None, failure, f"Pod {ended[0].name} ended with exit code {code} and without a report.")


def _report_of(pod: PodView, digest: str) -> Report | None:
    report = parse_report(pod.message)
    return report if report is not None and report.order_digest in {digest, ""} else None
