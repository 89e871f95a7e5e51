# The images of rollout, made by `rollout image` from a folder rootfs/ that holds the static binary. The classic builder
# makes every stage before its target, so the stage that needs another image comes second.
ARG BASE=docker:cli

# rollout:latest: one static binary, and nothing else.
FROM scratch AS rollout
LABEL org.opencontainers.image.title="rollout" \
      org.opencontainers.image.description="Zero-downtime rollouts for Docker Compose services behind Traefik" \
      org.opencontainers.image.licenses="MIT" \
      io.rollout.image="true" \
      io.rollout.helper="3"
# /rollout, and /var/lib/rollout that any user may write: a named volume takes on its mode.
COPY rootfs/ /
VOLUME /var/lib/rollout
EXPOSE 2375
# Every address of the container; elsewhere the socket proxy needs --listen.
ENV ROLLOUT_SOCKET_PROXY_LISTEN=0.0.0.0:2375
HEALTHCHECK --interval=2s --timeout=3s --start-period=10s CMD ["/rollout", "socket-proxy", "--check"]
ENTRYPOINT ["/rollout"]

# rollout:cli: the binary beside the Docker CLI and Compose, to roll from where nothing is installed.
FROM ${BASE} AS cli
COPY --from=rollout /rollout /usr/local/bin/rollout
ENTRYPOINT ["/usr/local/bin/rollout"]

# What `docker build` makes where no stage is named.
FROM rollout
