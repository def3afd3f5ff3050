{{/* Values that would have no effect stop here. */}}
{{- define "ee.checkEffect" -}}
{{- $v := .Values }}
{{- $attribute := $v.config.attribute | default dict }}
{{- if eq $v.profile "gpu-only" }}
{{- if not (has ($v.state.hostPath | default "") (list "" "/var/lib/emissions-exporter")) }}
{{- include "ee.fail" "state.hostPath has no effect with profile: gpu-only, which mounts nothing of the host. Leave it out." }}
{{- end }}
{{- range $name, $_ := $attribute }}
{{- include "ee.fail" (printf "config.attribute.%s has no effect with profile: gpu-only, which attributes nothing. Leave it out, or choose profile: default." $name) }}
{{- end }}
{{- end }}
{{- range get $attribute "excluded_namespaces" | default list }}
{{- if has . (get $attribute "namespaces" | default list) }}
{{- include "ee.fail" (printf "config.attribute: %s is in namespaces and in excluded_namespaces. Leave it out of one of them." .) }}
{{- end }}
{{- end }}
{{- end }}
