{{/*
The settings files. Their names are those of the programs' own settings (receiver/settings.py, controller/settings.py),
which refuse a name that they do not know; what is empty here is left out, so that the program's default holds.
*/}}

{{- define "epkg.receiverSettings" -}}
namespace: {{ .Release.Namespace }}
logLevel: {{ .Values.logLevel }}
port: {{ .Values.receiver.port }}
appDefinitionIds: {{ toJson .Values.benchling.appDefinitionIds }}
tenantIds: {{ toJson .Values.benchling.tenantIds }}
{{- with .Values.benchling.jwksUrl }}
jwksUrl: {{ . | quote }}
{{- end }}
{{- range $name, $value := .Values.receiver.settings }}
{{ $name }}: {{ toJson $value }}
{{- end }}
{{- end -}}

{{- define "epkg.controllerSettings" -}}
{{- $controller := .Values.controller -}}
namespace: {{ .Release.Namespace }}
logLevel: {{ .Values.logLevel }}
healthPort: {{ int $controller.healthPort }}
benchling:
  baseUrl: {{ .Values.benchling.baseUrl | quote }}
  credentialsFolder: /etc/entrypackage/benchling
destination:
  {{- range $name, $value := .Values.destination }}
  {{- if or $value (kindIs "bool" $value) }}
  {{ $name }}: {{ toJson $value }}
  {{- end }}
  {{- end }}
packager:
  image: {{ include "epkg.image" (list . .Values.packager.image) | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  imagePullSecrets: {{ toJson .Values.image.pullSecrets }}
  serviceAccount: {{ include "epkg.componentName" (list . "packager") }}
  cpu: {{ .Values.packager.resources.cpu | quote }}
  memory: {{ .Values.packager.resources.memory | quote }}
  env: {{ mergeOverwrite (dict "AWS_REGION" .Values.aws.region) .Values.packager.env | toJson }}
  {{- with .Values.packager.envFromSecret }}
  envFromSecret: {{ . }}
  {{- end }}
  podLabels:
    {{- include "epkg.packagerPodLabels" . | nindent 4 }}
  podAnnotations: {{ toJson .Values.podAnnotations }}
  logLevel: {{ .Values.logLevel }}
  limits:
    {{- range $name, $value := .Values.packager.limits }}
    {{ $name }}: {{ int64 $value }}
    {{- end }}
{{- range $name, $value := $controller.settings }}
{{ $name }}: {{ toJson $value }}
{{- end }}
{{- end -}}
