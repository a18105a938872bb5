# Two stages: an environment from the hash-locked requirements, then that environment and nothing else.
# The base is an argument: any image with Python 3.11 or later and a POSIX shell will do.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
COPY deploy/requirements/runtime.txt deploy/requirements/runtime.txt
COPY deploy/bootstrap deploy/bootstrap
RUN python3 -m venv --without-pip /opt/turnout \
    && /opt/turnout/bin/python deploy/bootstrap/pip-*.whl/pip install --no-cache-dir --disable-pip-version-check \
       --require-hashes -r deploy/requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY backends backends
COPY config config
RUN /opt/turnout/bin/python deploy/bootstrap/pip-*.whl/pip install --no-cache-dir --disable-pip-version-check \
    --no-deps --no-build-isolation .

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
