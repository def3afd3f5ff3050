{{/* Checks of zones and of chains of intensity sources. They repeat the rules of exporter/convert, so
that a chain which the exporter refuses is refused before there are pods. */}}

{{/* The zone of `.Values` in upper case; "?" where only the node finds it out. */}}
{{- define "ee.zone" -}}
{{- $convert := .Values.config.convert | default dict }}
{{- $zone := get $convert "zone" | toString | trim | upper }}
{{- range .Values.extraEnv }}
{{- if and (not $zone) (eq .name "EMISSIONS_EXPORTER_CONVERT_ZONE") }}
{{- $zone = .value | default "?" | upper }}
{{- end }}
{{- end }}
{{- $zone | default (ternary "?" "" (get $convert "cloud_metadata" | default false)) }}
{{- end }}

{{/* What one source counts: signal, basis and accounting, from `.name`, `.options`, `.convert` and
`.zone`. */}}
{{- define "ee.kind" -}}
{{- $source := get (include "ee.sources" . | fromJson) .name }}
{{- $own := ternary .convert dict (has .name (list "static" "file")) }}
{{- $basis := .options.basis | default (get $own "basis") | default $source.basis }}
{{- if and (eq .name "table") (not $basis) }}
{{- $zone := .options.zone | default .zone | toString | trim | upper }}
{{- $known := get (include "ee.zones" . | fromJson) $zone | default "- unstated -" }}
{{- $basis = index (splitList " " $known) 1 }}
{{- end }}
{{- .options.signal | default $source.signal }} {{ $basis }} {{ .options.accounting | default (get $own "accounting") | default $source.accounting }}
{{- end }}

{{/* Names and options of a list of sources, as JSON. */}}
{{- define "ee.entries" -}}
{{- $entries := list }}
{{- range . }}
{{- if kindIs "map" . }}
{{- range $name, $options := . }}
{{- $entries = append $entries (dict "name" $name "options" ($options | default dict)) }}
{{- end }}
{{- else }}
{{- $entries = append $entries (dict "name" . "options" dict) }}
{{- end }}
{{- end }}
{{- $entries | toJson }}
{{- end }}

{{/* The sources of `config.convert`, or those that its simpler keys stand for, as `ee.entries`. */}}
{{- define "ee.firstChain" -}}
{{- $convert := .Values.config.convert | default dict }}
{{- $simple := list }}
{{- if ne "" (get $convert "grams_per_kwh" | toString | replace "<nil>" "") }}{{ $simple = list "static" }}
{{- else if get $convert "file" }}{{ $simple = list "file" }}
{{- end }}
{{- if and (include "ee.zone" .) (not (has "static" $simple)) }}{{ $simple = append $simple "table" }}{{ end }}
{{- get $convert "sources" | default $simple | include "ee.entries" }}
{{- end }}

{{/* What the intensity pod counts: what its first source does. */}}
{{- define "ee.intensityKind" -}}
{{- $chain := include "ee.firstChain" . | fromJsonArray }}
{{- $kind := "average lifecycle location" }}
{{- if $chain }}
{{- $first := first $chain }}
{{- $convert := .Values.config.convert | default dict }}
{{- $zone := $first.options.zone | default (include "ee.zone" .) }}
{{- if not (and (eq $first.name "table") (eq $zone "?")) }}
{{- $kind = include "ee.kind" (dict "name" $first.name "options" $first.options "convert" $convert "zone" $zone) }}
{{- end }}
{{- end }}
{{- $kind }}
{{- end }}

{{/* " Did you mean A or B?" for codes that are like this one. */}}
{{- define "ee.near" -}}
{{- $given := upper . | replace "-" "" | replace ":" "" | replace "_" "" }}
{{- $zones := include "ee.zones" . | fromJson }}
{{- $near := list }}
{{- /* A short text is a code of a country, with a letter too many or another one at its end; it is
not a part of the name of a cloud region. */}}
{{- if and (le (len $given) 4) (regexMatch "^[A-Z]+[0-9]?$" $given) }}
{{- $country := trunc 2 $given }}
{{- if hasKey $zones $country }}{{ $near = list $country }}{{ end }}
{{- end }}
{{- range $code, $_ := $zones }}
{{- $isSame := contains $given ($code | replace "-" "" | replace ":" "") }}
{{- if and (contains ":" $code) (le (len $given) 4) }}{{ $isSame = hasPrefix (printf "%s:" $given) $code }}{{ end }}
{{- if and $given (lt (len $near) 3) $isSame (not (has $code $near)) }}
{{- $near = append $near (ternary (lower $code) $code (contains ":" $code)) }}
{{- end }}
{{- end }}
{{- with $near }} Did you mean {{ join " or " . }}?{{ end }}
{{- end }}

{{/* Stop where the bundled table has no value: from `.at`, `.zone` and `.basis`. */}}
{{- define "ee.checkTable" -}}
{{- if not .zone }}
{{- $one := ternary " The intensity pod serves nodes of one zone; for several zones, install one release for each." "" (hasPrefix "intensity." .at) }}
{{- include "ee.fail" (printf "%s: `table` requires a zone. Set config.convert.zone, for example to DE, or leave `table` out.%s" .at $one) }}
{{- end }}
{{- $known := get (include "ee.zones" . | fromJson) .zone }}
{{- if not $known }}
{{- include "ee.fail" (printf "%s: the bundled table has no zone %s.%s Expected the code of a country (DE), of a region (US-CA) or of a cloud region (aws:eu-west-1)." .at .zone (include "ee.near" .zone)) }}
{{- end }}
{{- $bases := index (splitList " " $known) 2 }}
{{- if eq (index (splitList " " $known) 1) "-" }}
{{- $country := index (splitList " " $known) 0 }}
{{- $mean := ternary (printf "write {table: {zone: %s}} or config.convert.zone: %s for the mean of its country, or: " $country $country) "" (hasKey (include "ee.zones" . | fromJson) $country) }}
{{- include "ee.fail" (printf "%s: the bundled table has no value for %s; %sset config.convert.grams_per_kwh, or name sources without `table`." .at .zone $mean) }}
{{- end }}
{{- if and .basis (not (has .basis (splitList "," $bases))) }}
{{- include "ee.fail" (printf "%s: the bundled table has no %s value for %s. It has: %s." .at .basis .zone (ternary "one whose basis is not stated" $bases (eq $bases "-"))) }}
{{- end }}
{{- end }}

{{/* Stop where a source of a chain cannot work: from `.at`, `.entries`, `.zone`, `.Values` and
`.hasTokens`. */}}
{{- define "ee.checkSources" -}}
{{- $at := .at }}
{{- $zone := .zone }}
{{- $hasTokens := .hasTokens }}
{{- $variables := list }}
{{- range .Values.extraEnv }}{{ $variables = append $variables .name }}{{ end }}
{{- $zones := include "ee.zones" . | fromJson }}
{{- $known := include "ee.sources" . | fromJson }}
{{- range .entries }}
{{- $source := get $known .name }}
{{- $place := .options.zone | default $zone | toString | trim | upper }}
{{- if and (eq .name "table") (ne $place "?") }}
{{- include "ee.checkTable" (dict "at" $at "zone" $place "basis" .options.basis) }}
{{- end }}
{{- if and (has .name (list "electricity_maps" "energy_charts")) (not $place) }}
{{- include "ee.fail" (printf "%s: `%s` requires a zone. Set config.convert.zone, for example to DE." $at .name) }}
{{- end }}
{{- $country := get $zones $zone | default "-" | splitList " " | first }}
{{- $isKnown := and (not .options.zone) (or (eq $zone "?") (ne $country "-")) }}
{{- if and (eq .name "energy_charts") (not $isKnown) (not (regexMatch "^[A-Z]{2}$" $place)) }}
{{- include "ee.fail" (printf "%s: `energy_charts` requires a country of two letters, and %s is none." $at $place) }}
{{- end }}
{{- if and $source.country (ne $country "-") (ne $country $source.country) }}
{{- include "ee.fail" (printf "%s: `%s` knows %s only, and config.convert.zone %s is in %s." $at .name $source.country $zone $country) }}
{{- end }}
{{- $file := .options.token_file | default "" }}
{{- if and (hasPrefix "/etc/emissions-exporter/tokens/" $file) (not $hasTokens) }}
{{- if hasPrefix "intensity.standIns" $at }}
{{- include "ee.fail" (printf "%s.%s.token_file: tokens.existingSecret is not mounted in the pods of nodes while intensity.enabled is true. Leave this source out." $at .name) }}
{{- else }}
{{- include "ee.fail" (printf "%s.%s.token_file is below the mount of tokens. Name its Secret in tokens.existingSecret." $at .name) }}
{{- end }}
{{- end }}
{{- if and $source.token (not $file) (not (has $source.token $variables)) }}
{{- include "ee.fail" (printf "%s: `%s` requires a token. Name its file in token_file and its Secret in tokens.existingSecret, or set %s in extraEnv." $at .name $source.token) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Stop where a source of a chain can never replace the first: from `.at`, `.entries`, `.first`
(its name), `.kind` (what it counts), `.zone` and `.convert`. */}}
{{- define "ee.checkComparable" -}}
{{- $kind := splitList " " .kind }}
{{- $names := list "signal" "basis" "accounting" }}
{{- $chain := . }}
{{- range .entries }}
{{- $later := include "ee.kind" (dict "name" .name "options" .options "convert" $chain.convert "zone" $chain.zone) | splitList " " }}
{{- $isStated := not (or (eq "unstated" (index $kind 1)) (eq "unstated" (index $later 1))) }}
{{- if or (ne (first $kind) (first $later)) (ne (last $kind) (last $later)) (and $isStated (ne (index $kind 1) (index $later 1))) }}
{{- $remedy := ternary "leave it out" "leave it out, or set config.convert.fallback: any" (eq $chain.at "config.convert.second") }}
{{- $place := .options.zone | default $chain.zone | toString | trim | upper }}
{{- $bases := get (include "ee.zones" . | fromJson) $place | default "- - -" | splitList " " | last | splitList "," }}
{{- if and (eq .name "table") (has (index $kind 1) $bases) (eq (last $kind) "location") }}
{{- $remedy = printf "write {table: {basis: %s}}, %s" (index $kind 1) $remedy }}
{{- end }}
{{- include "ee.fail" (printf "%s: `%s` counts %s, so it never replaces %s, which counts %s. Change it: %s." $chain.at .name (join " " $later) $chain.first (join " " $kind) $remedy) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "ee.checkIntensity" -}}
{{- $v := .Values }}
{{- $convert := $v.config.convert | default dict }}
{{- $zone := include "ee.zone" . }}
{{- $chain := include "ee.firstChain" . | fromJsonArray }}
{{- $isMixed := eq (get $convert "fallback" | default "") "any" }}
{{- $at := ternary "config.convert.sources" "config.convert" (gt (len (get $convert "sources" | default list)) 0) }}
{{- $hasTokens := ne "" ($v.tokens.existingSecret | default "") }}
{{- include "ee.checkSources" (dict "at" $at "entries" $chain "zone" $zone "Values" $v "hasTokens" $hasTokens) }}
{{- range $chain }}
{{- if hasPrefix "marginal" (include "ee.kind" (dict "name" .name "options" .options "convert" $convert "zone" $zone)) }}
{{- include "ee.fail" (printf "%s: `%s` is marginal, which is not what was emitted. Move it to config.convert.second." $at .name) }}
{{- end }}
{{- end }}
{{- $kind := include "ee.intensityKind" . }}
{{- if and $chain (get $convert "sources") (not $isMixed) }}
{{- include "ee.checkComparable" (dict "at" $at "entries" (rest $chain) "first" (printf "`%s`" (first $chain).name) "kind" $kind "zone" $zone "convert" $convert) }}
{{- end }}
{{- $second := include "ee.entries" (get $convert "second" | default list) | fromJsonArray }}
{{- include "ee.checkSources" (dict "at" "config.convert.second" "entries" $second "zone" $zone "Values" $v "hasTokens" $hasTokens) }}
{{- if $second }}
{{- $other := include "ee.kind" (dict "name" (first $second).name "options" (first $second).options "convert" $convert "zone" $zone) }}
{{- include "ee.checkComparable" (dict "at" "config.convert.second" "entries" (rest $second) "first" (printf "`%s`" (first $second).name) "kind" $other "zone" $zone "convert" $convert) }}
{{- if and (eq $other $kind) (ne $zone "?") }}
{{- include "ee.fail" (printf "config.convert.second: `%s` counts the same as the first intensity, %s. It is for another kind." (first $second).name $kind) }}
{{- end }}
{{- end }}
{{- if $v.intensity.enabled }}
{{- $counts := splitList " " $kind }}
{{- range $index, $name := list "basis" "accounting" }}
{{- $given := get $v.intensity $name }}
{{- if and $given (ne $given (index $counts (add1 $index))) }}
{{- include "ee.fail" (printf "intensity.%s is %s, and the first source of the intensity pod counts %s. Leave intensity.%s out." $name $given (index $counts (add1 $index)) $name) }}
{{- end }}
{{- end }}
{{- $standIns := include "ee.entries" $v.intensity.standIns | fromJsonArray }}
{{- /* A node must be able to start while the cloud's metadata service does not answer. */}}
{{- $nodeZone := ternary "" $zone (and (eq $zone "?") (get $convert "cloud_metadata" | default false)) }}
{{- include "ee.checkSources" (dict "at" "intensity.standIns" "entries" $standIns "zone" $nodeZone "Values" $v "hasTokens" false) }}
{{- if not $isMixed }}
{{- include "ee.checkComparable" (dict "at" "intensity.standIns" "entries" $standIns "first" "the intensity pod" "kind" $kind "zone" $zone "convert" dict) }}
{{- end }}
{{- end }}
{{- end }}
