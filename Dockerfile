# The base may be any Debian-based image with python3 (3.11 or newer) and its venv module.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
RUN python3 -m venv /opt/emissions-exporter \
 && /opt/emissions-exporter/bin/python -m pip install --no-cache-dir '.[kubernetes]' \
 && /opt/emissions-exporter/bin/python -m pip uninstall --yes pip

FROM ${BASE}
# Nothing is installed here, so the base's own installer is only something to patch.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/pip* \
           /usr/local/lib/python3*/ensurepip \
 && install -d -o 65532 -g 65532 /var/lib/emissions-exporter /run/emissions-exporter
COPY --from=build /opt/emissions-exporter /opt/emissions-exporter
ENV PATH=/opt/emissions-exporter/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    EMISSIONS_EXPORTER_ACCOUNT_STATE_DIRECTORY=/var/lib/emissions-exporter \
    EMISSIONS_EXPORTER_EXPOSE_SOCKET=/run/emissions-exporter/agent.sock
# RAPL counters need uid 0, without any capability: docker run --user 0 --cap-drop ALL
USER 65532:65532
EXPOSE 10680
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["emissions-exporter", "healthcheck"]
ENTRYPOINT ["emissions-exporter"]

# Last, so that a new revision does not rebuild what is above.
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="emissions-exporter" \
      org.opencontainers.image.description="Energy and emissions of a machine and of every run on it, for Prometheus." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
