{{/* What the chart has to know of gateway.yaml, and what would not work together with it. The rest is for `mailtrixy-gateway check`. */}}

{{/* gateway.yaml, parsed, as JSON. */}}
{{- define "gateway.config" -}}
{{- if not (trim .Values.config) -}}
{{- fail "config is empty: give the gateway's configuration as it is, with --set-file config=gateway.yaml" -}}
{{- end -}}
{{- $config := fromYaml .Values.config -}}
{{- if hasKey $config "Error" -}}
{{- fail (printf "config is not a YAML file of keys and values: %s" $config.Error) -}}
{{- end -}}
{{- toJson $config -}}
{{- end }}

{{/* shutdown.delay and shutdown.grace together, in whole seconds. */}}
{{- define "gateway.grace" -}}
{{- $config := include "gateway.config" . | fromJson -}}
{{- $delay := include "gateway.seconds" (list "shutdown.delay" (dig "shutdown" "delay" "0s" $config)) | int -}}
{{- $grace := include "gateway.seconds" (list "shutdown.grace" (dig "shutdown" "grace" "30s" $config)) | int -}}
{{- add $delay $grace -}}
{{- end }}

{{/* A span, given with its key, in whole seconds. Units as the gateway reads them. */}}
{{- define "gateway.seconds" -}}
{{- $key := index . 0 -}}
{{- $span := index . 1 | toString -}}
{{- $part := "[0-9]+ *(ms|msec|millis|s|secs?|seconds?|m|min|mins|minutes?|h|hr|hrs|hours?)" -}}
{{- if not (or (eq $span "0") (regexMatch (printf "^ *(%s *)+$" $part) $span)) -}}
{{- fail (printf "%s is %s, which this chart cannot read: write it out, as in 30s or 1m" $key $span) -}}
{{- end -}}
{{- $seconds := 0.0 -}}
{{- range regexFindAll $part $span -1 -}}
{{- $number := regexFind "^[0-9]+" . | float64 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- if hasPrefix "ms" $unit | or (hasPrefix "milli" $unit) -}}
{{- $seconds = addf $seconds (divf $number 1000) -}}
{{- else if hasPrefix "m" $unit -}}
{{- $seconds = addf $seconds (mulf $number 60) -}}
{{- else if hasPrefix "h" $unit -}}
{{- $seconds = addf $seconds (mulf $number 3600) -}}
{{- else -}}
{{- $seconds = addf $seconds $number -}}
{{- end -}}
{{- end -}}
{{- ceil $seconds | int -}}
{{- end }}

{{/* How long Kubernetes waits for a pod to end: no request is cut off by it. */}}
{{- define "gateway.termination" -}}
{{- $grace := include "gateway.grace" . | int -}}
{{- $needed := add .Values.preStopSeconds $grace 5 | int -}}
{{- $given := .Values.terminationGracePeriodSeconds | int -}}
{{- if and $given (lt $given $needed) -}}
{{- fail (printf "terminationGracePeriodSeconds is %d, but preStopSeconds, shutdown.delay and shutdown.grace (%d s) and a margin of 5 s are %d: requests in flight would be cut off; 0 takes what is needed" $given $grace $needed) -}}
{{- end -}}
{{- default $needed $given -}}
{{- end }}

{{/* Fails where values and gateway.yaml do not go together. */}}
{{- define "gateway.check" -}}
{{- $config := include "gateway.config" . | fromJson -}}
{{- $admin := dig "admin" "address" "127.0.0.1:9090" $config | toString -}}
{{- if not (hasPrefix "${" $admin) -}}
{{- if or (hasPrefix "127." $admin) (hasPrefix "[::1]" $admin) (not (hasSuffix (printf ":%d" (int .Values.admin.port)) $admin)) -}}
{{- fail (printf "admin.address in config is %s, where probes do not reach port %d of the pod: write address: ${ADMIN_ADDRESS:-127.0.0.1:9090}, which this chart sets" $admin (int .Values.admin.port)) -}}
{{- end -}}
{{- end -}}
{{- if hasKey .Values.env "ADMIN_ADDRESS" -}}
{{- fail "env.ADMIN_ADDRESS is set by this chart, from admin.port" -}}
{{- end -}}

{{- $open := list -}}
{{- $unknown := false -}}
{{- range $config.listeners -}}
{{- $address := dig "address" "" . | toString -}}
{{- if contains "${" $address -}}
{{- $unknown = true -}}
{{- else if not (or (hasPrefix "127." $address) (hasPrefix "[::1]" $address)) -}}
{{- $open = append $open (regexFind "[0-9]+$" $address) -}}
{{- end -}}
{{- end -}}
{{- range .Values.service.ports -}}
{{- if eq (int .targetPort) (int $.Values.admin.port) -}}
{{- fail (printf "service.ports: %s leads to the admin port, which is not for clients" .name) -}}
{{- end -}}
{{- if not (or $unknown (has (toString .targetPort) $open)) -}}
{{- fail (printf "service.ports: %s leads to port %d, but the listeners in config that are open to other machines have %s" .name (int .targetPort) (join ", " $open | default "none")) -}}
{{- end -}}
{{- end -}}

{{- $most := ternary .Values.autoscaling.maxReplicas .Values.replicas .Values.autoscaling.enabled | int -}}
{{- $redis := default dict $config.redis -}}
{{- if and (gt $most 1) (not (or $redis.url $redis.url_file)) -}}
{{- fail (printf "up to %d replicas and no redis.url in config: each would count limits for itself; set redis.url, or replicas to 1" $most) -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail (printf "autoscaling.minReplicas (%d) is more than maxReplicas (%d)" (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- end -}}

{{- if not .Values.secrets.env -}}
{{- range regexFindAll "\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}" (toJson $config | replace "$${" "") -1 | uniq -}}
{{- $name := trimAll "${}" . -}}
{{- if not (or (hasKey $.Values.env $name) (hasKey $.Values.secrets.variables $name) (eq $name "ADMIN_ADDRESS")) -}}
{{- fail (printf "config needs the variable %s: set it in env, or name a Secret that has it in secrets.env or secrets.variables" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- if .Values.prometheusRule.enabled -}}
{{- if not .Values.prometheusRule.files -}}
{{- fail "prometheusRule.files is empty: give files of rules as they are, with --set-file prometheusRule.files.alerts=deploy/prometheus/alerts.yml" -}}
{{- end -}}
{{- range $name, $text := .Values.prometheusRule.files -}}
{{- if not (dig "groups" "" (fromYaml $text)) -}}
{{- fail (printf "prometheusRule.files.%s has no `groups:`: it is no file of rules" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
