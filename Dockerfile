# Two images: the server, and with `--target ci` the same program on top of a shell, for jobs of GitLab's pipelines.
#
#   podman build --format docker --tag greenroom .                                       compiles greenroom
#   podman build --format docker --tag greenroom --build-arg BINARY=dist/greenroom .     takes a static one from the context
#
# `--format docker`: the OCI format has no health check. The same commit gives the same image with `--timestamp 0` (BuildKit:
# SOURCE_DATE_EPOCH and `rewrite-timestamp=true`). docs/image.md has how to run both.

# Compiles, and lays out what the images hold. With BINARY any image will do that has a shell and /etc/ssl/certs.
ARG BUILD_BASE=docker.io/library/rust:1.95-bookworm
# Any image with a shell: Runner starts jobs in one.
ARG CI_BASE=docker.io/library/busybox:1.37

FROM ${BUILD_BASE} AS files
WORKDIR /src
COPY . .
ARG BINARY=
RUN set -eu; \
    if [ -z "$BINARY" ]; then \
        target=x86_64-unknown-linux-gnu; \
        RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --release --bin greenroom --target "$target"; \
        BINARY=target/$target/release/greenroom; \
    fi; \
    ci/install "./$BINARY" /files; \
    mkdir -p /files/etc/ssl/certs /data/var/lib/greenroom; \
    cp /etc/ssl/certs/ca-certificates.crt /files/etc/ssl/certs/; \
    chown 65532:65532 /data/var/lib/greenroom; \
    chmod 700 /data/var/lib/greenroom

FROM ${CI_BASE} AS ci
COPY --from=files /files/ /
# Runner lets the image's user write to the folder of a job, whoever that is.
USER 65532:65532
ENTRYPOINT []
CMD ["sh"]
ARG CREATED=
ARG REVISION=
ARG SOURCE=
ARG VERSION=
LABEL org.opencontainers.image.title="greenroom" \
      org.opencontainers.image.description="A running copy of the app for every GitLab merge request: for jobs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.version="$VERSION"

FROM scratch AS server
COPY --from=files /files/ /
COPY --from=files /data/ /
USER 65532:65532
ENV GREENROOM_LISTEN=0.0.0.0:8080 \
    GREENROOM_DATA_DIR=/var/lib/greenroom
VOLUME /var/lib/greenroom
EXPOSE 8080
# After 30 seconds without an answer it is unhealthy, whatever is in the way: GitLab is none of it.
HEALTHCHECK --interval=10s --timeout=10s --start-period=30s --retries=3 CMD ["/usr/bin/greenroom", "health"]
ENTRYPOINT ["/usr/bin/greenroom"]
CMD ["serve"]
ARG CREATED=
ARG REVISION=
ARG SOURCE=
ARG VERSION=
LABEL org.opencontainers.image.title="greenroom" \
      org.opencontainers.image.description="A running copy of the app for every GitLab merge request" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.version="$VERSION"
