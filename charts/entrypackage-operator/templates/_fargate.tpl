{{/*
What Fargate sells: MiB from, to and in steps of, for each number of thousandths of a vCPU. To a pod's memory it adds
256 MiB and rounds up.
*/}}
{{- define "epkg.fargateLadder" -}}
- {cpu: 250, from: 512, to: 1024, step: 512}
- {cpu: 250, from: 1024, to: 2048, step: 1024}
- {cpu: 500, from: 1024, to: 4096, step: 1024}
- {cpu: 1000, from: 2048, to: 8192, step: 1024}
- {cpu: 2000, from: 4096, to: 16384, step: 1024}
- {cpu: 4000, from: 8192, to: 30720, step: 1024}
- {cpu: 8000, from: 16384, to: 61440, step: 4096}
- {cpu: 16000, from: 32768, to: 122880, step: 8192}
{{- end -}}

{{/* Thousandths of a vCPU of 250m, 1 or 0.5. */}}
{{- define "epkg.millicpu" -}}
{{- if hasSuffix "m" . -}}{{ trimSuffix "m" . }}{{- else -}}{{ mulf (float64 .) 1000.0 | ceil | int }}{{- end -}}
{{- end -}}

{{/* MiB of 768Mi or 2Gi. */}}
{{- define "epkg.mebibytes" -}}
{{- if hasSuffix "Gi" . -}}{{ mul (trimSuffix "Gi" . | int) 1024 }}{{- else -}}{{ trimSuffix "Mi" . }}{{- end -}}
{{- end -}}

{{/* The size that a pod with these resources is billed for, as JSON {cpu, mib}; nothing if there is none so large. */}}
{{- define "epkg.billedSize" -}}
{{- $cpu := include "epkg.millicpu" .cpu | int -}}
{{- $need := include "epkg.mebibytes" .memory | int | add 256 | int -}}
{{- $found := dict -}}
{{- range include "epkg.fargateLadder" . | fromYamlArray -}}
{{- if and (not $found.cpu) (le $cpu (int .cpu)) (le $need (int .to)) -}}
{{- $steps := divf (float64 (max 0 (sub $need (int .from)))) (float64 .step) | ceil | int -}}
{{- $_ := set $found "cpu" (int .cpu) -}}
{{- $_ := set $found "mib" (add (int .from) (mul $steps (int .step)) | int) -}}
{{- end -}}
{{- end -}}
{{- if $found.cpu -}}{{ toJson $found }}{{- end -}}
{{- end -}}

{{/* Dollars per hour of a billed size. Call with (list $ <size>). */}}
{{- define "epkg.hourPrice" -}}
{{- $prices := (index . 0).Values.fargate -}}
{{- $size := index . 1 -}}
{{- addf (mulf (divf $size.cpu 1000.0) $prices.vcpuHourPrice) (mulf (divf $size.mib 1024.0) $prices.gbHourPrice) -}}
{{- end -}}

{{/* Such as "0.25 vCPU, 0.5 GB". */}}
{{- define "epkg.sizeText" -}}
{{- printf "%v vCPU, %v GB" (divf .cpu 1000.0) (divf .mib 1024.0) -}}
{{- end -}}
