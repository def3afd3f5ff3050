{{/* Stop with a message. `helm lint` lists a call of `fail` as information and continues; indexing a
list by a text is an error there too. */}}
{{- define "ee.fail" -}}
{{- fail . }}
{{- index (list) . }}
{{- end }}

{{/* The milliseconds of a duration such as 1m30s; 0 if it is empty. */}}
{{- define "ee.milliseconds" -}}
{{- $sum := 0 }}
{{- range regexFindAll "[0-9]+(ms|s|m|h)" . -1 }}
{{- $unit := regexFind "[a-z]+$" . }}
{{- $sum = add $sum (mul (trimSuffix $unit . | float64 | int64) (get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) $unit)) }}
{{- end }}
{{- $sum }}
{{- end }}

{{/* Values that contradict each other stop here, with what to do. */}}
{{- define "ee.check" -}}
{{- $v := .Values }}
{{- $gpuOnly := eq $v.profile "gpu-only" }}
{{- if and $v.agentSocket.enabled (ne $v.profile "sharing") }}
{{- include "ee.fail" (printf "agentSocket.enabled needs profile: sharing. With profile: %s no caller could be told from another; name runs by annotations of pods instead." $v.profile) }}
{{- end }}
{{- if and $v.rbac.dynamicResourceAllocation (or $gpuOnly (not $v.rbac.create)) }}
{{- include "ee.fail" "rbac.dynamicResourceAllocation needs rbac.create: true and a profile other than gpu-only, which asks nobody about devices." }}
{{- end }}
{{- if and $gpuOnly (not (has ($v.seLinuxOptions.type | default "container_t") (list "container_t" "container_init_t" "container_kvm_t" "container_engine_t"))) }}
{{- include "ee.fail" (printf "seLinuxOptions.type: %s is not allowed to pods that are restricted. Leave it out with profile: gpu-only, which mounts nothing of the host." $v.seLinuxOptions.type) }}
{{- end }}
{{- if $gpuOnly }}
{{- range $v.extraVolumes }}
{{- if .hostPath }}
{{- include "ee.fail" (printf "extraVolumes: %s is a hostPath, and profile: gpu-only mounts nothing of the host. Choose profile: default." .name) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $v.podMonitor.enabled $v.serviceMonitor.enabled }}
{{- include "ee.fail" "podMonitor and serviceMonitor are both enabled, so that each node would be scraped twice. Enable one of them." }}
{{- end }}
{{- if and (or $v.webConfig.tls $v.webConfig.clientCertificates) (not $v.webConfig.existingSecret) }}
{{- include "ee.fail" "webConfig.tls and webConfig.clientCertificates say what the web config sets up. Name its secret in webConfig.existingSecret." }}
{{- end }}
{{- if and $v.webConfig.clientCertificates (not $v.webConfig.tls) }}
{{- include "ee.fail" "webConfig.clientCertificates needs webConfig.tls: true." }}
{{- end }}
{{- $none := list "0" "0%" }}
{{- $surge := dig "rollingUpdate" "maxSurge" 0 $v.updateStrategy | toString }}
{{- if and $v.state.hostPath (not $gpuOnly) (not (has $surge $none)) }}
{{- include "ee.fail" "updateStrategy.rollingUpdate.maxSurge must be 0: only one exporter may hold the totals of a node." }}
{{- end }}
{{- if and (has $surge $none) (has (dig "rollingUpdate" "maxUnavailable" 1 $v.updateStrategy | toString) $none) }}
{{- include "ee.fail" "updateStrategy.rollingUpdate.maxUnavailable must be above 0 where maxSurge is 0: no pod could be replaced." }}
{{- end }}
{{- if and (not $v.serviceAccount.create) (not $v.serviceAccount.name) (eq (include "ee.asksApi" .) "yes") }}
{{- include "ee.fail" "serviceAccount.create is false: name the account in serviceAccount.name, or set rbac.create: false. The namespace's default account is not given rights." }}
{{- end }}
{{- if and $v.intensity.enabled (dig "convert" "second" list $v.config) }}
{{- include "ee.fail" "config.convert.second cannot go through intensity.enabled. Leave one of them out." }}
{{- end }}
{{- if and $v.intensity.enabled (or (dig "convert" "file" "" $v.config) (dig "convert" "grams_per_kwh" "" $v.config)) (not (dig "convert" "sources" list $v.config)) }}
{{- include "ee.fail" "intensity.enabled is for sources that are asked over the network. With config.convert.file or grams_per_kwh, leave it off." }}
{{- end }}
{{- $convert := get $v.config "convert" | default dict }}
{{- $places := list (list "config.convert" $convert) }}
{{- range $at, $sources := dict "config.convert.sources" $convert.sources "config.convert.second" $convert.second "intensity.standIns" $v.intensity.standIns }}
{{- range $sources }}
{{- if kindIs "map" . }}
{{- range $name, $options := . }}
{{- $places = append $places (list (printf "%s.%s" $at $name) ($options | default dict)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- $codes := include "ee.zoneNames" . | fromJson }}
{{- range $places }}
{{- $options := last . }}
{{- $zone := get $options "zone" | toString | trim }}
{{- $code := get $codes (lower $zone) }}
{{- if $code }}
{{- include "ee.fail" (printf "%s.zone: %s is a name, and a code is expected. Did you mean %s?" (first .) $zone $code) }}
{{- end }}
{{- $grams := get $options "grams_per_kwh" | default 0 | float64 }}
{{- if and (gt $grams 0.0) (lt $grams 1.0) }}
{{- include "ee.fail" (printf "%s.grams_per_kwh: %v g/kWh is less than any grid emits, it looks like kg/kWh. Write %v." (first .) $grams (mulf $grams 1000.0)) }}
{{- end }}
{{- end }}
{{- include "ee.checkIntensity" . }}
{{- include "ee.checkEffect" . }}
{{- range $v.extraArgs }}
{{- $flag := splitList "=" . | first }}
{{- if has $flag (list "--config.file" "--web.listen-address" "--web.config.file" "--path.sysfs" "--path.procfs" "--path.state" "--socket.path") }}
{{- include "ee.fail" (printf "extraArgs: %s is set by the chart. Leave it out." $flag) }}
{{- end }}
{{- if and (hasPrefix "--" .) (not (has $flag (include "ee.flags" $ | fromJsonArray))) }}
{{- include "ee.fail" (printf "extraArgs: `serve` has no flag %s. Its flags are in docs/configuration.md." $flag) }}
{{- end }}
{{- if eq $flag "--convert.zone" }}
{{- include "ee.fail" "extraArgs: write config.convert.zone instead of --convert.zone, so that it is checked and reaches every pod." }}
{{- end }}
{{- if eq $flag "--web.telemetry-path" }}
{{- include "ee.fail" "extraArgs: write config.expose.telemetry_path instead of --web.telemetry-path, so that monitors know it." }}
{{- end }}
{{- end }}
{{- range $labels := list "commonLabels" "podLabels" }}
{{- range $label, $_ := get $v $labels | default dict }}
{{- if has $label (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart") }}
{{- include "ee.fail" (printf "%s: %s is set by the chart. Leave it out." $labels $label) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $monitor := list "podMonitor" "serviceMonitor" }}
{{- $of := get $v $monitor }}
{{- $timeout := include "ee.milliseconds" ($of.scrapeTimeout | default "") | int64 }}
{{- $interval := include "ee.milliseconds" ($of.interval | default "") | int64 }}
{{- if and $interval (gt $timeout $interval) }}
{{- include "ee.fail" (printf "%s.scrapeTimeout: %s is longer than %s.interval, %s, which Prometheus does not accept. Set it to the interval or less." $monitor $of.scrapeTimeout $monitor $of.interval) }}
{{- end }}
{{- end }}
{{- $path := dig "expose" "telemetry_path" "/metrics" ($v.config | default dict) }}
{{- if not (regexMatch "^(/[A-Za-z0-9._~-]+)+$" $path) }}
{{- include "ee.fail" (printf "config.expose.telemetry_path: %s is no path. Write / and names, such as /metrics." $path) }}
{{- else if regexMatch "^/(runs|api|static|-)(/|$)" $path }}
{{- include "ee.fail" (printf "config.expose.telemetry_path: %s is reserved. Choose another path, such as /metrics." $path) }}
{{- end }}
{{- $exported := dict }}
{{- range dig "attribute" "exported_labels" list ($v.config | default dict) }}
{{- $label := printf "label_%s" (regexReplaceAll "[^a-zA-Z0-9_]" . "_") }}
{{- if hasKey $exported $label }}
{{- include "ee.fail" (printf "config.attribute.exported_labels: %s and %s would both become %s. Leave one out." (get $exported $label) . $label) }}
{{- end }}
{{- $_ := set $exported $label . }}
{{- end }}
{{- range $chain := list "sources" "second" }}
{{- range $entry := dig "convert" $chain list ($v.config | default dict) }}
{{- range $name, $option := dict "static" "grams_per_kwh" "file" "path" }}
{{- $setting := ternary "file" $option (eq $name "file") }}
{{- $options := dict }}
{{- if kindIs "map" $entry }}{{ $options = get $entry $name | default dict }}{{ end }}
{{- $isThis := or (eq (toString $entry) $name) (and (kindIs "map" $entry) (hasKey $entry $name)) }}
{{- if and $isThis (not (get $options $option)) (not (dig "convert" $setting "" $v.config)) }}
{{- include "ee.fail" (printf "config.convert.%s: %s requires its option %s or config.convert.%s." $chain $name $option $setting) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- $address := $v.prometheusRule.repositoryUrl | default "" }}
{{- if and $address (not (regexMatch "^https?://[^/]" $address)) }}
{{- include "ee.fail" (printf "prometheusRule.repositoryUrl: %s has no scheme, so that alerts would have no working link. Write, for example, https://%s." $address ($address | trimPrefix "//")) }}
{{- end }}
{{- if hasSuffix ".md" $address }}
{{- include "ee.fail" (printf "prometheusRule.repositoryUrl: %s is the address of a page. Write the address above docs/, to which /docs/runbook.md is appended." $address) }}
{{- end }}
{{- if and $v.prometheusRule.budgets (not $v.prometheusRule.enabled) }}
{{- include "ee.fail" "prometheusRule.budgets needs prometheusRule.enabled: true." }}
{{- end }}
{{- if $v.prometheusRule.budgets }}
{{- $budgets := fromYaml $v.prometheusRule.budgets }}
{{- if not (kindIs "slice" $budgets.groups) }}
{{- include "ee.fail" "prometheusRule.budgets expects rules. Make them with: emissions-exporter rules --budgets FILE > rules.yaml, then --set-file prometheusRule.budgets=rules.yaml." }}
{{- end }}
{{- end }}
{{- range $key, $instead := dict "sample.sysfs" "profile" "sample.procfs" "profile" "attribute.node_name" "the chart's own" "attribute.kubelet_socket" "kubelet.podResourcesPath" "attribute.service_account" "serviceAccount" "account.state_directory" "state.hostPath" "expose.listen_address" "port" "expose.socket" "agentSocket" "expose.node" "the chart's own" "expose.web_config_file" "webConfig" }}
{{- $at := splitList "." $key }}
{{- if hasKey (get $v.config (first $at) | default dict) (last $at) }}
{{- include "ee.fail" (printf "config.%s is set by the chart (%s). Leave it out of config." $key $instead) }}
{{- end }}
{{- range $v.extraEnv }}
{{- if eq .name (printf "EMISSIONS_EXPORTER_%s" ($key | replace "." "_" | upper)) }}
{{- include "ee.fail" (printf "extraEnv: %s is set by the chart (%s). Leave it out." .name $instead) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
