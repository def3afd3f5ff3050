# The base may be any Debian-based image with python3 (3.11 or newer) and its venv module. NVML needs
# a glibc. Nothing here names a processor's architecture.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY dashboards/generated dashboards/generated
COPY deploy/grafana deploy/grafana
COPY deploy/prometheus deploy/prometheus
COPY deploy/slurm deploy/slurm
COPY docs/emissions-exporter.1 docs/
COPY exporter exporter
# Byte code stays: the root file system is read-only, and every health check is a new process.
RUN python3 -m venv /opt/emissions-exporter \
 && cd /opt/emissions-exporter \
 && bin/python -m pip install --no-cache-dir '/src[auth,kubernetes]' \
 && bin/python -m pip uninstall --yes pip setuptools \
 && find . -type d \( -name tests -o -name test \) -prune -exec rm -rf {} + \
 && find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' \
                      -o -name '*.c' -o -name '*.h' -o -name '[Aa]ctivate*' \) -delete \
 && rm -rf include

FROM ${BASE}
# Nothing is installed here, so the base's own installer is only something to patch. The directories
# are for both users: uid 0 without capabilities could not write where another one owns.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/pip* \
           /usr/local/lib/python3*/ensurepip /usr/lib/python3*/ensurepip /usr/share/python-wheels \
 && install -d -o 0 -g 65532 -m 0770 /var/lib/emissions-exporter \
 && install -d -o 0 -g 65532 -m 0775 /run/emissions-exporter
COPY --from=build /opt/emissions-exporter /opt/emissions-exporter
ENV PATH=/opt/emissions-exporter/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    EMISSIONS_EXPORTER_ACCOUNT_STATE_DIRECTORY=/var/lib/emissions-exporter \
    EMISSIONS_EXPORTER_EXPOSE_SOCKET=/run/emissions-exporter/agent.sock
# RAPL counters need uid 0, without any capability: docker run --user 0 --cap-drop ALL
USER 65532:65532
EXPOSE 10680
STOPSIGNAL SIGTERM
# Each check is a process of a tenth of a CPU second.
HEALTHCHECK --interval=60s --timeout=30s --start-period=5s CMD ["emissions-exporter", "healthcheck"]
ENTRYPOINT ["emissions-exporter"]

# Last, so that a new revision does not rebuild what is above.
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
ARG DOCUMENTATION=unknown
ENV EMISSIONS_EXPORTER_REVISION=${REVISION}
LABEL org.opencontainers.image.title="emissions-exporter" \
      org.opencontainers.image.description="Energy and emissions of a machine and of every run on it, for Prometheus." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.documentation="${DOCUMENTATION}"
