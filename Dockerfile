# Two stages: an environment from the hash-locked requirements, then that environment and nothing else.
# The base is an argument: any image with Python 3.11 or later and a POSIX shell will do.
ARG BASE=python:3.13-slim
# COMPILE=1 compiles the hot modules (docs/performance.md): the first stage then needs a C compiler and Python's headers,
# as BUILD_BASE=python:3.13 has them, with the same Python as BASE.
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS build
ARG COMPILE=0
WORKDIR /src
COPY deploy/requirements/runtime.txt deploy/requirements/runtime.txt
COPY deploy/bootstrap deploy/bootstrap
RUN pip=$(echo deploy/bootstrap/pip-*.whl)/pip \
    && python3 -m venv --without-pip /opt/turnout \
    && /opt/turnout/bin/python "$pip" install --no-cache-dir --disable-pip-version-check --require-hashes \
       -r deploy/requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY deploy/compiled deploy/compiled
COPY deploy/requirements/dev.txt deploy/requirements/dev.txt
COPY app app
COPY backends backends
COPY config config
RUN pip=$(echo deploy/bootstrap/pip-*.whl)/pip; builder=/opt/turnout; \
    if [ "$COMPILE" = 1 ]; then \
        builder=/opt/compiler; \
        python3 -m venv --without-pip $builder \
        && $builder/bin/python "$pip" install --no-cache-dir --disable-pip-version-check --require-hashes \
           -r deploy/requirements/dev.txt || exit 1; \
    fi; \
    TURNOUT_COMPILE=$COMPILE $builder/bin/python "$pip" wheel --no-cache-dir --disable-pip-version-check --no-deps \
        --no-build-isolation -w /opt/wheels . \
    && /opt/turnout/bin/python "$pip" install --no-cache-dir --disable-pip-version-check --no-deps /opt/wheels/*.whl

FROM ${BASE}
RUN useradd --system --uid 10001 --home-dir /var/lib/turnout --create-home turnout
COPY --from=build /opt/turnout /opt/turnout
COPY deploy/docker/turnout.yaml /etc/turnout/turnout.yaml
ENV PATH=/opt/turnout/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /var/lib/turnout
VOLUME /var/lib/turnout
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
ENTRYPOINT ["turnout"]
CMD ["serve", "--config", "/etc/turnout/turnout.yaml"]
