{{/* Guards: each failure is one sentence that names the value and says what to do. */}}

{{- define "epkg.validate" -}}
{{- include "epkg.validateMissing" . -}}
{{- include "epkg.validateRole" . -}}
{{- include "epkg.validatePorts" . -}}
{{- include "epkg.validateIngress" . -}}
{{- include "epkg.validateDurations" . -}}
{{- include "epkg.validateSizes" . -}}
{{- include "epkg.validateRelease" . -}}
{{- include "epkg.validateSecret" . -}}
{{- end -}}

{{- define "epkg.validateMissing" -}}
{{- $missing := list -}}
{{- if not .Values.aws.region -}}{{ $missing = append $missing "aws.region (such as us-east-1)" }}{{- end -}}
{{- if not .Values.benchling.baseUrl -}}{{ $missing = append $missing "benchling.baseUrl (such as https://example.benchling.com)" }}{{- end -}}
{{- if not .Values.benchling.appDefinitionIds -}}{{ $missing = append $missing "benchling.appDefinitionIds (such as {appdef_Ab12})" }}{{- end -}}
{{- if not .Values.benchling.secretName -}}{{ $missing = append $missing "benchling.secretName (a Secret with client_id and client_secret)" }}{{- end -}}
{{- if not .Values.destination.bucket -}}{{ $missing = append $missing "destination.bucket (the bucket for packages)" }}{{- end -}}
{{- if not .Values.destination.queueUrl -}}{{ $missing = append $missing "destination.queueUrl (the SQS queue that is told of packages)" }}{{- end -}}
{{- with $missing -}}
{{- printf "Set %s." (join ", " .) | fail -}}
{{- end -}}
{{- end -}}

{{- define "epkg.validateRole" -}}
{{- $packager := .Values.packager -}}
{{- $role := or $packager.serviceAccount.roleArn (get $packager.serviceAccount.annotations "eks.amazonaws.com/role-arn") -}}
{{- $keys := or $packager.envFromSecret $packager.env.AWS_ACCESS_KEY_ID $packager.env.AWS_PROFILE -}}
{{- if not (or $role $keys) -}}
{{- fail "Set packager.serviceAccount.roleArn to the IAM role that may write to the bucket, or packager.envFromSecret to a Secret with AWS credentials: the packager would have none." -}}
{{- end -}}
{{- end -}}

{{- define "epkg.validatePorts" -}}
{{- if and .Values.fargate.enabled (eq (int .Values.receiver.port) 10250) -}}
{{- fail "Set receiver.port to another port than 10250: on Fargate that one is the kubelet's." -}}
{{- end -}}
{{- if and .Values.fargate.enabled (eq (int .Values.controller.healthPort) 10250) -}}
{{- fail "Set controller.healthPort to another port than 10250: on Fargate that one is the kubelet's." -}}
{{- end -}}
{{- end -}}

{{- define "epkg.validateIngress" -}}
{{- $ingress := .Values.receiver.ingress -}}
{{- if and $ingress.enabled (eq $ingress.className "alb") -}}
{{- if not (or $ingress.host $ingress.alb.certificateArn (get $ingress.annotations "alb.ingress.kubernetes.io/certificate-arn")) -}}
{{- fail "Set receiver.ingress.host or receiver.ingress.alb.certificateArn: webhooks come over TLS, and the load balancer finds its certificate by one of them." -}}
{{- end -}}
{{- if gt (float64 $ingress.alb.deregistrationSeconds) (float64 .Values.receiver.settings.drainSeconds) -}}
{{- fail "Set receiver.settings.drainSeconds to at least receiver.ingress.alb.deregistrationSeconds: else the load balancer sends webhooks to a pod that is gone." -}}
{{- end -}}
{{- if and $ingress.alb.inboundCidrs $ingress.alb.securityGroupPrefixLists -}}
{{- fail "Set receiver.ingress.alb.inboundCidrs or receiver.ingress.alb.securityGroupPrefixLists, not both." -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "epkg.validateDurations" -}}
{{- $timing := .Values.controller.settings.timing -}}
{{- $retained := max (float64 $timing.retainSucceededSeconds) (float64 $timing.retainFailedSeconds) -}}
{{- if le (float64 $timing.ttlAfterFinishedSeconds) (float64 $retained) -}}
{{- fail "Set controller.settings.timing.ttlAfterFinishedSeconds above retainSucceededSeconds and retainFailedSeconds: it is the safety net under them." -}}
{{- end -}}
{{- $receiver := .Values.receiver.settings -}}
{{- if gt (float64 $receiver.jwksTimeoutSeconds) (float64 $receiver.writeDeadlineSeconds) -}}
{{- fail "Set receiver.settings.jwksTimeoutSeconds to at most writeDeadlineSeconds: the key server's answer must come before Benchling's patience ends." -}}
{{- end -}}
{{- $lease := .Values.controller.settings.lease -}}
{{- if not (and (lt (float64 $lease.retrySeconds) (float64 $lease.renewDeadlineSeconds)) (lt (float64 $lease.renewDeadlineSeconds) (float64 $lease.durationSeconds))) -}}
{{- fail "Set controller.settings.lease so that retrySeconds < renewDeadlineSeconds < durationSeconds: else two controllers could act at once." -}}
{{- end -}}
{{- end -}}

{{- define "epkg.validateSizes" -}}
{{- if .Values.fargate.enabled -}}
{{- range $component := list "receiver" "controller" "packager" -}}
{{- if not (include "epkg.billedSize" (index $.Values $component).resources) -}}
{{- printf "Set %s.resources to at most 16 vCPU and 120 GB less 256 MiB: Fargate has no larger pods." $component | fail -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The Lease has one name in a namespace, so a second release there would fight the first one. */}}
{{- define "epkg.validateRelease" -}}
{{- $marker := lookup "v1" "ConfigMap" .Release.Namespace .Chart.Name -}}
{{- if $marker -}}
{{- $owner := dig "metadata" "annotations" "meta.helm.sh/release-name" "" $marker -}}
{{- if and $owner (ne $owner .Release.Name) -}}
{{- printf "Install into another namespace, or upgrade the release %s: it serves the namespace %s already, and a namespace has room for one." $owner .Release.Namespace | fail -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Every namespace of a running cluster has the ConfigMap kube-root-ca.crt; without it nothing can be looked up. */}}
{{- define "epkg.validateSecret" -}}
{{- if and .Values.benchling.checkSecret (lookup "v1" "ConfigMap" .Release.Namespace "kube-root-ca.crt") -}}
{{- $name := .Values.benchling.secretName -}}
{{- $secret := lookup "v1" "Secret" .Release.Namespace $name -}}
{{- range $key := list "client_id" "client_secret" -}}
{{- if not (dig "data" $key "" $secret) -}}
{{- printf "Create the Secret %s with the keys client_id and client_secret (kubectl create secret generic %s -n %s --from-file=client_id --from-file=client_secret): benchling.secretName names it and %s is not there." $name $name $.Release.Namespace $key | fail -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
