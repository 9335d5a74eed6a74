{{/* Names, labels and images. All names begin with the release's, cut so that the longest suffix fits 63 characters. */}}

{{- define "epkg.name" -}}
{{- default .Release.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* Call with (list $ "receiver"). */}}
{{- define "epkg.componentName" -}}
{{- printf "%s-%s" (include "epkg.name" (index . 0)) (index . 1) -}}
{{- end -}}

{{- define "epkg.settingsName" -}}
{{- include "epkg.componentName" (list . "settings") -}}
{{- end -}}

{{/* What tells pods apart; it never changes during a release's life. Call with (list $ "receiver"). */}}
{{- define "epkg.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of an object. Call with (list $ "receiver"); component "" is for what belongs to all. */}}
{{- define "epkg.labels" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.commonLabels }}
{{- toYaml . }}
{{ end -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | replace "+" "_" | trunc 63 | quote }}
app.kubernetes.io/part-of: {{ $root.Chart.Name }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- if index . 1 }}
{{ include "epkg.selectorLabels" . }}
{{- else }}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- end }}
{{- end -}}

{{/* Labels of a Deployment's pods: what a user adds cannot replace what selects them. Call with (list $ "receiver"). */}}
{{- define "epkg.podLabels" -}}
{{- $values := (index . 0).Values -}}
{{- $own := include "epkg.selectorLabels" . | fromYaml -}}
{{- $part := dict "app.kubernetes.io/part-of" (index . 0).Chart.Name -}}
{{- mergeOverwrite dict $values.commonLabels $values.podLabels $part $own | toYaml -}}
{{- end -}}

{{/* Labels of the packager's pods besides those that the controller sets. */}}
{{- define "epkg.packagerPodLabels" -}}
{{- omit (include "epkg.podLabels" (list . "packager") | fromYaml) "app.kubernetes.io/component" | toYaml -}}
{{- end -}}

{{/* repository:tag, or repository:tag@digest. Call with (list $ .Values.receiver.image). */}}
{{- define "epkg.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $registry := $root.Values.image.registry | trimSuffix "/" -}}
{{- $tag := $image.tag | default $root.Chart.AppVersion -}}
{{- with $registry }}{{ . }}/{{ end }}{{ $image.repository }}:{{ $tag }}{{ with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}
