"""The part of a Kubernetes pod that the local node reads, as typed models.

The API server has validated and defaulted what arrives here; defaults are repeated only where a test's short
pod leaves them out. Unknown fields are ignored, except in volumes, whose unknown kinds must be refused.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


class Resources(_Part):
    """Requests and limits, as quantities in text."""

    requests: dict[str, str] = {}
    limits: dict[str, str] = {}


class KeyReference(_Part):
    """One key of a Secret or ConfigMap."""

    name: str = ""
    key: str
    optional: bool = False


class FieldReference(_Part):
    """A field of the pod itself."""

    field_path: str


class ResourceReference(_Part):
    """A request or limit of a container of the pod."""

    resource: str
    container_name: str = ""
    divisor: str = "0"


class ValueFrom(_Part):
    """Where a variable's value comes from; exactly one member is set."""

    field_ref: FieldReference | None = None
    resource_field_ref: ResourceReference | None = None
    config_map_key_ref: KeyReference | None = None
    secret_key_ref: KeyReference | None = None


class Variable(_Part):
    """One member of `env`."""

    name: str
    value: str = ""
    value_from: ValueFrom | None = None


class ObjectReference(_Part):
    """A whole Secret or ConfigMap."""

    name: str = ""
    optional: bool = False


class VariableSource(_Part):
    """One member of `envFrom`."""

    prefix: str = ""
    config_map_ref: ObjectReference | None = None
    secret_ref: ObjectReference | None = None


class HttpHeader(_Part):
    """A header that a probe sends."""

    name: str
    value: str


class HttpGet(_Part):
    """An HTTP request; `port` is a number or the name of a container port."""

    path: str = "/"
    port: int | str
    host: str = ""
    # The API's field is named so; it shadows nothing that a model has.
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    http_headers: list[HttpHeader] = []


class Probe(_Part):
    """A probe with the API server's defaults; times are in seconds. Kinds other than HTTP are refused."""

    http_get: HttpGet | None = None
    tcp_socket: dict[str, Any] | None = None
    exec: dict[str, Any] | None = None
    grpc: dict[str, Any] | None = None
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class Capabilities(_Part):
    """Linux capabilities on top of the default ones."""

    add: list[str] = []
    drop: list[str] = []


class SecurityContext(_Part):
    """The members that Fargate or the local node reads, of pods and containers."""

    privileged: bool = False
    capabilities: Capabilities = Capabilities()
    run_as_user: int | None = None
    run_as_group: int | None = None
    read_only_root_filesystem: bool = False


class Port(_Part):
    """A port that the container says it listens on."""

    container_port: int
    name: str = ""
    host_port: int = 0


class Mount(_Part):
    """Where a volume is seen."""

    name: str
    mount_path: str
    read_only: bool = False
    sub_path: str = ""
    sub_path_expr: str = ""


class Container(_Part):
    """A container; what a pod may not have here is read only as far as its refusal needs it."""

    name: str
    image: str = ""
    command: list[str] = []
    args: list[str] = []
    working_dir: str = ""
    env: list[Variable] = []
    env_from: list[VariableSource] = []
    ports: list[Port] = []
    resources: Resources = Resources()
    volume_mounts: list[Mount] = []
    volume_devices: list[dict[str, Any]] = []
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: dict[str, Any] = {}
    termination_message_path: str = "/dev/termination-log"
    termination_message_policy: Literal["File", "FallbackToLogsOnError"] = "File"
    security_context: SecurityContext = SecurityContext()


class KeyToPath(_Part):
    """A key that becomes a file of another name."""

    key: str
    path: str
    mode: int | None = None


class SecretVolume(_Part):
    """A Secret as files."""

    secret_name: str = ""
    items: list[KeyToPath] = []
    default_mode: int = 0o644
    optional: bool = False


class ConfigMapVolume(_Part):
    """A ConfigMap as files."""

    name: str = ""
    items: list[KeyToPath] = []
    default_mode: int = 0o644
    optional: bool = False


class DownwardFile(_Part):
    """One file with a fact about the pod."""

    path: str
    field_ref: FieldReference | None = None
    resource_field_ref: ResourceReference | None = None
    mode: int | None = None


class DownwardSource(_Part):
    """Facts about the pod as files, as in the volume that the API server adds for a ServiceAccount."""

    items: list[DownwardFile] = []


class EmptyDir(_Part):
    """An empty folder that lives as long as the pod."""

    medium: str = ""
    size_limit: str | None = None


class ProjectedSecret(_Part):
    """A Secret inside a projected volume."""

    name: str = ""
    items: list[KeyToPath] = []
    optional: bool = False


class TokenSource(_Part):
    """A ServiceAccount token bound to the pod."""

    audience: str = ""
    expiration_seconds: int = 3600
    path: str


class ProjectedSource(_Part):
    """One source of a projected volume; exactly one member is set."""

    secret: ProjectedSecret | None = None
    config_map: ProjectedSecret | None = None
    downward_api: DownwardSource | None = Field(None, alias="downwardAPI")
    service_account_token: TokenSource | None = None


class ProjectedVolume(_Part):
    """Several sources in one folder."""

    sources: list[ProjectedSource] = []
    default_mode: int = 0o644


class Volume(_Part):
    """A volume; kinds that the local node does not know stay readable in `model_extra`."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="allow")

    name: str
    secret: SecretVolume | None = None
    config_map: ConfigMapVolume | None = None
    empty_dir: EmptyDir | None = None
    projected: ProjectedVolume | None = None
    downward_api: dict[str, Any] | None = Field(None, alias="downwardAPI")

    def foreign_kinds(self) -> list[str]:
        """Kinds such as hostPath or persistentVolumeClaim that are set on this volume."""
        return sorted(name for name, value in (self.model_extra or {}).items() if value is not None)


class PodSpec(_Part):
    """What the pod shall be."""

    containers: list[Container]
    init_containers: list[dict[str, Any]] = []
    volumes: list[Volume] = []
    node_name: str = ""
    node_selector: dict[str, str] = {}
    scheduler_name: str = "default-scheduler"
    service_account_name: str = "default"
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"
    termination_grace_period_seconds: int = 30
    active_deadline_seconds: int | None = None
    host_network: bool = False
    host_pid: bool = Field(False, alias="hostPID")
    host_ipc: bool = Field(False, alias="hostIPC")
    hostname: str = ""
    security_context: SecurityContext = SecurityContext()
    readiness_gates: list[dict[str, Any]] = []


class Owner(_Part):
    """An owner reference."""

    kind: str
    name: str
    uid: str = ""
    controller: bool = False


class Metadata(_Part):
    """Who the pod is."""

    name: str
    namespace: str
    uid: str
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[Owner] = []
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None


class Condition(_Part):
    """A pod condition, as far as the node reads it."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class PodStatus(_Part):
    """What the API server holds about the pod's state."""

    phase: str = "Pending"
    pod_ip: str = Field("", alias="podIP")
    start_time: str | None = None
    conditions: list[Condition] = []


class Pod(_Part):
    """A pod."""

    metadata: Metadata
    spec: PodSpec
    status: PodStatus = PodStatus()

    @property
    def full_name(self) -> str:
        """Namespace and name, as people write them."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    def finished(self) -> bool:
        """Whether its phase is one that ends a pod."""
        return self.status.phase in {"Succeeded", "Failed"}

    def controller(self) -> Owner | None:
        """The owner that manages the pod, if it has one."""
        return next((one for one in self.metadata.owner_references if one.controller), None)

    def container(self, name: str) -> Container | None:
        """The container of this name."""
        return next((one for one in self.spec.containers if one.name == name), None)
