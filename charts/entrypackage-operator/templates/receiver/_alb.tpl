{{/* Annotations for the AWS Load Balancer Controller: TLS only, straight to the pods, as Fargate demands. */}}
{{- define "epkg.albAnnotations" -}}
{{- $alb := .Values.receiver.ingress.alb -}}
alb.ingress.kubernetes.io/scheme: {{ $alb.scheme }}
alb.ingress.kubernetes.io/target-type: ip
alb.ingress.kubernetes.io/listen-ports: '[{"HTTPS":443}]'
alb.ingress.kubernetes.io/ssl-policy: {{ $alb.sslPolicy }}
{{- with $alb.certificateArn }}
alb.ingress.kubernetes.io/certificate-arn: {{ . }}
{{- end }}
{{- with $alb.inboundCidrs }}
alb.ingress.kubernetes.io/inbound-cidrs: {{ join "," . | quote }}
{{- end }}
{{- with $alb.securityGroupPrefixLists }}
alb.ingress.kubernetes.io/security-group-prefix-lists: {{ join "," . | quote }}
{{- end }}
{{- with $alb.wafAclArn }}
alb.ingress.kubernetes.io/wafv2-acl-arn: {{ . }}
{{- end }}
alb.ingress.kubernetes.io/healthcheck-path: /readyz
alb.ingress.kubernetes.io/healthcheck-interval-seconds: "10"
alb.ingress.kubernetes.io/healthcheck-timeout-seconds: "5"
alb.ingress.kubernetes.io/healthy-threshold-count: "2"
alb.ingress.kubernetes.io/unhealthy-threshold-count: "2"
alb.ingress.kubernetes.io/success-codes: "200"
alb.ingress.kubernetes.io/target-group-attributes: deregistration_delay.timeout_seconds={{ $alb.deregistrationSeconds }},load_balancing.algorithm.type=least_outstanding_requests
{{- with $alb.attributes }}
{{- $pairs := list }}
{{- range $name, $value := . }}
{{- $pairs = append $pairs (printf "%s=%v" $name $value) }}
{{- end }}
alb.ingress.kubernetes.io/load-balancer-attributes: {{ join "," $pairs | quote }}
{{- end }}
{{- end -}}
