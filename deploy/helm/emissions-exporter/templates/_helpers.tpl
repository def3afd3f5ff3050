{{- define "ee.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "ee.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "ee.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "ee.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Cluster-wide objects are named for the namespace too, so that two releases do not collide. */}}
{{- define "ee.clusterName" -}}
{{- $name := include "ee.fullname" . }}
{{- if eq $name .Release.Namespace }}{{ $name }}{{ else }}{{ printf "%s-%s" .Release.Namespace $name }}{{ end }}
{{- end }}

{{- define "ee.selector" -}}
app.kubernetes.io/name: {{ include "ee.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "ee.nodeSelector" -}}
{{ include "ee.selector" . }}
app.kubernetes.io/component: node
{{- end }}

{{- define "ee.intensitySelector" -}}
{{ include "ee.selector" . }}
app.kubernetes.io/component: intensity
{{- end }}

{{- define "ee.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "ee.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "ee.image" -}}
{{- $registry := .Values.global.imageRegistry | default .Values.image.registry }}
{{- with $registry }}{{ . | trimSuffix "/" }}/{{ end }}{{ .Values.image.repository }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "ee.pullSecrets" -}}
{{- with concat (.Values.global.imagePullSecrets | default list) (.Values.imagePullSecrets | default list) | uniq }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "ee.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "ee.fullname" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{/* "yes" where the pods ask the API server. */}}
{{- define "ee.asksApi" -}}
{{- if and .Values.rbac.create (ne .Values.profile "gpu-only") }}yes{{ end }}
{{- end }}

{{/* Mounts below a mount stay writable without it; older clusters do not know the field. */}}
{{- define "ee.recursively" -}}
{{- if semverCompare ">=1.31-0" .Capabilities.KubeVersion.Version -}}
recursiveReadOnly: IfPossible
{{- end }}
{{- end }}

{{- define "ee.intensityUrl" -}}
http://{{ include "ee.fullname" . }}-intensity.{{ .Release.Namespace }}:{{ .Values.port }}
{{- end }}

{{/* Settings of the nodes. Where one pod asks the network for them, they ask that. */}}
{{- define "ee.nodeConfig" -}}
{{- $config := deepCopy .Values.config }}
{{- if eq .Values.profile "gpu-only" }}
{{- /* Known to be out of reach, so nobody is alerted that it is. */}}
{{- $config = merge $config (dict "sample" (dict "collectors" (dict "rapl" false))) }}
{{- end }}
{{- if .Values.intensity.enabled }}
{{- $kind := include "ee.intensityKind" . | splitList " " }}
{{- $source := dict "url" (include "ee.intensityUrl" .) "basis" (index $kind 1) "accounting" (index $kind 2) }}
{{- $convert := pick ($config.convert | default dict) "pue" "zone" "cloud_metadata" "fallback" }}
{{- $_ := set $convert "sources" (prepend .Values.intensity.standIns (dict "exporter" $source)) }}
{{- $_ := set $config "convert" $convert }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* Settings of the pod that asks for all: no hardware is read, it would be counted twice. */}}
{{- define "ee.intensityConfig" -}}
{{- $config := pick (deepCopy .Values.config) "convert" }}
{{- $_ := set $config "sample" (dict "collectors" (dict "nvml" false "amdgpu" false "intel_gpu" false "rapl" false "hsmp" false "xgene" false "grace" false "cpu_estimate" false "dram_estimate" false "node_query" false "pm_counters" false "acpi_power_meter" false "board_power" false)) }}
{{- with .Values.config.expose }}{{ $_ := set $config "expose" . }}{{ end }}
{{- toYaml $config }}
{{- end }}

{{- define "ee.probes" -}}
{{- $probes := dict "startupProbe" "/-/healthy" "livenessProbe" "/-/healthy" "readinessProbe" "/-/ready" }}
{{- range $name, $path := $probes }}
{{- /* Values of an earlier chart, as --reuse-values passes them, have no startup probe. */}}
{{- $times := get $.Values $name | default (dict "periodSeconds" 5 "timeoutSeconds" 10 "failureThreshold" 60) }}
{{ $name }}:
  {{- if not (and $.isNode $.Values.webConfig.clientCertificates) }}
  httpGet:
    path: {{ $path }}
    port: http
    scheme: {{ ternary "HTTPS" "HTTP" (and $.isNode $.Values.webConfig.tls) }}
  {{- else if eq $name "livenessProbe" }}
  # The kubelet has no certificate; the agent socket asks for none. Not more often, since each time
  # is a process of a tenth of a CPU second.
  exec:
    command: [emissions-exporter, healthcheck]
  {{- $times = merge (dict "periodSeconds" (max 60 $times.periodSeconds) "timeoutSeconds" (max 30 $times.timeoutSeconds)) $times }}
  {{- else }}
  tcpSocket:
    port: http
  {{- end }}
  {{- toYaml $times | nindent 2 }}
{{- end }}
{{- end }}

{{/* What a monitor says of its endpoint, from `.Values`, `.monitor` and `.dropped`. */}}
{{- define "ee.endpoint" -}}
port: http
path: {{ dig "expose" "telemetry_path" "/metrics" (.Values.config | default dict) }}
scheme: {{ ternary "https" "http" .Values.webConfig.tls }}
{{- with .monitor.interval }}
interval: {{ . }}
{{- end }}
{{- with .monitor.scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- with .monitor.tlsConfig }}
tlsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.basicAuth }}
basicAuth:
  {{- toYaml . | nindent 2 }}
{{- end }}
relabelings:
  # The node, and no label for the pod: a replaced pod continues its series.
  - sourceLabels: [__meta_kubernetes_pod_node_name]
    targetLabel: instance
  # The alerts look for this name, whatever the release is called.
  - targetLabel: job
    replacement: emissions-exporter
  - action: labeldrop
    regex: {{ .dropped }}
  {{- with .monitor.relabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .monitor.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
